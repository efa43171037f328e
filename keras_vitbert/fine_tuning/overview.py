"""The table of what `finetune` found and will do."""

import numpy as np

from keras_vitbert.configs.fitting import as_argument
from keras_vitbert.configs.overrides import flatten
from keras_vitbert.fine_tuning.settings import steps_of
from keras_vitbert.runs import overview
from pipelines.tasks.labelled_images import LabelledImages

_MODES = {1: "grey", 2: "grey with transparency", 3: "colour", 4: "colour with transparency"}


def rows(run, model, chosen, pictures, trials):
    """The rows of `keras_vitbert.runs.overview.table` for a run.

    Args:
        run: `keras_vitbert.fine_tuning.search.FineTuningRun`.
        model: dict, the `model` section as the run changes it.
        chosen: collection of str, the keys of the config that were chosen for these data.
        pictures: `keras_vitbert.fine_tuning.recommended.Pictures`, or None.
        trials: (int, trainings of a sweep; int, trainings that are reported).

    Returns:
        list of (str, str).
    """
    config, data = run.config, run.data
    about = [("data", _splits(data))]
    counts = data.train.class_counts(len(data.classes))
    about.append(overview.class_row(data.classes, counts))
    if isinstance(data.train, LabelledImages):
        about += _images(config, chosen, pictures)
    else:
        about += _texts(data, model, config)
    about += [
        ("model", _model(run, model)),
        overview.device_row(run.strategy, config.dtype),
        ("training", _training(run, chosen, trials)),
        ("folder", run.folder.path),
    ]
    return about


def _splits(data):
    splits = {"train": data.train, **data.tests}
    counts = ", ".join(f"{name} {split.count:,}" for name, split in splits.items())
    kind = "images" if isinstance(data.train, LabelledImages) else "texts"
    picked = f"; {data.picked_on} picks the rate of --sweep" if data.picked_on else ""
    return f"{kind}: {counts}{picked}"


def _images(config, chosen, pictures):
    views = config.images
    found = []
    if pictures is not None:
        heights, widths = pictures.sizes.T
        size = f"{widths.min()} x {heights.min()}"
        if len(np.unique(pictures.sizes, axis=0)) > 1:
            size += f" to {widths.max()} x {heights.max()}"
        modes = [_MODES.get(int(mode), "other") for mode in np.unique(pictures.channels)]
        found.append(("images", f"{size} pixels, {' and '.join(modes)}"))
    found += [
        ("" if found else "images", f"resized to {_said(config, 'image_size', chosen)} pixels"),
        (
            "",
            f"{overview.crops(views.crop_area)} "
            f"({as_argument('config.images.crop_area', views.crop_area)})",
        ),
    ]
    if views.flip:
        found.append(("", "mirrored at random (off: --config.images.flip=False)"))
    if views.layers:
        found.append(("", f"then {', '.join(views.layers)}"))
    return found


def _texts(data, model, config):
    lengths, most = data.train.lengths, model["max_sequence_length"]
    cut = float((lengths >= most).mean())
    middle, long = (int(np.quantile(lengths, part)) for part in (0.5, 0.95))
    found = []
    if data.train.rows is not None and data.train.rows.sentence_columns:
        rows = data.train.rows
        names = " and ".join(rows.sentence_columns)
        found.append(("columns", f"texts {names}; classes {rows.label_column}"))
    cut_off = f"; {cut:.1%} fill all {most} and may be cut off" if cut else ""
    return [*found, ("texts", f"{middle} tokens in the middle, 95 % at most {long}{cut_off}")]


def _model(run, model):
    name = run.pretrained.name
    if name == "rand":
        name = f"random weights, {run.pretrained.architecture}"
    elif run.pretrained.step:
        name += f", step {run.pretrained.step:,}"
    text = f"{name}: {model['num_layers']} blocks of width {model['hidden_dim']}"
    if run.task.kind == "images":
        return f"{text}, patches of {model['patch_size']} pixels"
    return text if run.pretrained.has_read else f"{text}; it was not trained on text"


def _training(run, chosen, trials):
    config, count = run.config, run.data.train.count
    steps = steps_of(config, count)
    times = overview.passes(steps, config.batch, count)
    swept, reported = trials
    rates = (
        f"{swept} rates of --config.grid" if swept else f"rate {config.optimizer.learning_rate:g}"
    )
    runs = f", {reported} seeds" if reported > 1 else ""
    text = (
        f"{steps:,} steps of {config.batch}: {times} passes; {config.optimizer.name}, {rates}{runs}"
    )
    keys = ["steps", "epochs", "batch", *([] if swept else ["optimizer.learning_rate"])]
    flat = flatten(config)
    flags = [as_argument(f"config.{key}", flat[key]) for key in keys if key in chosen]
    return text + (f" ({' '.join(flags)})" if flags else "")


def _said(config, key, chosen):
    argument = as_argument(f"config.{key}", config[key])
    return f"{config[key]}" + (f" ({argument})" if key in chosen else "")

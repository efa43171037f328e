"""The table of what `finetune` found and will do."""

import shlex

import numpy as np

from keras_vitbert.runs import overview
from pipelines.tasks.labelled_images import LabelledImages

_MODES = {1: "grey", 2: "grey with transparency", 3: "colour", 4: "colour with transparency"}


def rows(run):
    """The rows of `keras_vitbert.runs.overview.table` for a `FineTuningRun`: list of (str, str)."""
    config, data, chosen = run.config, run.data, run.chosen
    model = run.pretrained.fine_tuned_model(config.kind, config)
    about = [("data", _splits(data))]
    counts = data.train.class_counts(len(data.classes))
    about.append(overview.class_row(data.classes, counts))
    if isinstance(data.train, LabelledImages):
        about += _images(config, chosen, run.pictures)
    else:
        about += _texts(data, model, config)
    about += [
        ("model", _model(run, model)),
        overview.device_row(run.strategy, config.dtype),
        ("training", _training(run)),
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
            f"{overview.crops(views.crop_area)} ({_argument(config, 'images.crop_area')})",
        ),
    ]
    if views.flip:
        found.append(("", "mirrored at random (off: --config.images.flip=False)"))
    if views.layers:
        found.append(("", f"then {', '.join(layer['class_name'] for layer in views.layers)}"))
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


def _training(run):
    config, count, chosen = run.config, run.data.train.count, run.chosen
    steps = config.steps_for(count)
    times = overview.passes(steps, config.batch, count)
    rates = f"rate {config.optimizer.learning_rate:g}"
    if run.sweep:
        rates = f"{len(config.grid)} rates of grid"
    runs = f", {run.seeds} seeds" if run.seeds > 1 else ""
    text = (
        f"{steps:,} steps of {config.batch}: {times} passes; {config.optimizer.name}, {rates}{runs}"
    )
    fields = ["steps", "epochs", "batch", *([] if run.sweep else ["optimizer.learning_rate"])]
    flags = [_argument(config, field) for field in fields if field in chosen]
    return text + (f" ({' '.join(flags)})" if flags else "")


def _said(config, key, chosen):
    return f"{config.value(key)}" + (f" ({_argument(config, key)})" if key in chosen else "")


def _argument(config, field):
    """`--config.FIELD=VALUE`, as a shell takes it."""
    return shlex.quote(f"--config.{field}={config.value(field)}")

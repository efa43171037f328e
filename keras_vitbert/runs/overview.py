"""What a run found and what it will do, as a short table, before it does it."""

from typing import Any

import keras
import numpy as np

from keras_vitbert.configs.pretraining import Pretraining
from pipelines.cores import available_cores
from pipelines.tasks.labelled_images import LabelledImages
from tpu.devices import device_type, gpus

_CLASSES_SHOWN = 6
_MODES = {1: "grey", 2: "grey with transparency", 3: "colour", 4: "colour with transparency"}


def overview(run: Any) -> str:
    """The table of an opened `PretrainingRun` or `FineTuningRun`."""
    rows = _of_pretraining(run) if isinstance(run.config, Pretraining) else _of_fine_tuning(run)
    rows.append(("folder", run.folder.path))
    width = max(len(subject) for subject, _ in rows) + 2
    return "\n".join(f"  {subject:<{width}}{text}" for subject, text in rows)


def passes(steps: int, batch: int, count: int) -> str:
    """How often a run sees each of `count` training examples."""
    times = steps * batch / count
    return f"{times:,.0f}" if times >= 10 else f"{times:.2g}"


def _of_pretraining(run):
    config, variant, data = run.config, run.variant, run.data
    model, merge = config.model, config.merge
    rows, seen = [], []
    if variant.images:
        rows.append(("images", _counts(data.images, data.image_validation)))
        if data.classes:
            rows.append(_classes(data.classes))
        times = passes(config.steps, config.image_batch_size, data.images.records.count)
        seen.append(f"{config.image_batch_size} images ({times} passes)")
    if variant.text:
        words = f"{len(data.vocabulary):,} in the vocabulary, {config.data.case}"
        rows.append(("texts", _counts(data.texts, data.text_validation)))
        rows.append(("", f"{data.texts.length} tokens, {words}"))
        times = passes(config.steps, config.text_batch_size, data.texts.records.count)
        seen.append(f"{config.text_batch_size} texts ({times} passes)")
    rows += [
        ("model", f"{variant.name}: {model.num_layers} blocks of width {model.hidden_dim}"),
        _device(run),
        ("training", f"{config.steps:,} steps of {' and '.join(seen)}"),
    ]
    if config.distillation.ratio > 0:
        given = run.teacher_paths
        own = (given.get(kind) or f"own {kind} teacher" for kind in ("image", "text"))
        rows.append(("teachers", "; ".join(own)))
    if config.masks:
        updates = f"{merge.mask_updates} updates, every {merge.mask_update_interval:,} steps"
        rows.append(("masks", f"{merge.mask_ratio:.0%} cleared by {updates}"))
    return rows


def _of_fine_tuning(run):
    config, data = run.config, run.data
    model = run.pretrained.fine_tuned_model(config)
    is_images = isinstance(data.train, LabelledImages)
    splits = {"train": data.train, **data.tests}
    counts = ", ".join(f"{name} {split.count:,}" for name, split in splits.items())
    picked = f"; {data.picked_on} picks the rate of a sweep" if data.picked_on else ""
    return [
        ("data", f"{'images' if is_images else 'texts'}: {counts}{picked}"),
        _classes(data.classes, data.train.class_counts(len(data.classes))),
        *(_images(run) if is_images else _texts(data, model["max_sequence_length"])),
        ("model", _model(run, model)),
        _device(run),
        ("training", _training(run)),
    ]


def _images(run):
    config, pictures = run.config, run.pictures
    views, rows = config.images, []
    if pictures is not None:
        heights, widths = pictures.sizes.T
        size = f"{widths.min()} x {heights.min()}"
        if len(np.unique(pictures.sizes, axis=0)) > 1:
            size += f" to {widths.max()} x {heights.max()}"
        modes = [_MODES.get(int(mode), "other") for mode in np.unique(pictures.channels)]
        rows.append(("images", f"{size} pixels, {' and '.join(modes)}"))
    resized = f"resized to {config.image_size} pixels{_chosen(run, 'image_size')}"
    rows.append(("" if rows else "images", resized))
    rows.append(("", f"{_crops(views)}{_chosen(run, 'images.crop_area')}"))
    if views.flip:
        rows.append(("", "mirrored at random (images.flip=False turns it off)"))
    if views.augmentations:
        rows.append(("", f"then {', '.join(layer['class_name'] for layer in views.augmentations)}"))
    return rows


def _texts(data, most):
    lengths, rows = data.train.lengths, data.train.rows
    cut = float((lengths >= most).mean())
    middle, long = (int(np.quantile(lengths, part)) for part in (0.5, 0.95))
    cut_off = f"; {cut:.1%} fill all {most} and may be cut off" if cut else ""
    found = [("texts", f"{middle} tokens in the middle, 95 % at most {long}{cut_off}")]
    if rows is not None and rows.sentence_columns:
        names = " and ".join(rows.sentence_columns)
        found.insert(0, ("columns", f"texts {names}; classes {rows.label_column}"))
    return found


def _model(run, model):
    pretrained, name = run.pretrained, run.pretrained.name
    if pretrained.architecture:
        name = f"random weights, {pretrained.architecture}"
    elif pretrained.step:
        name += f", step {pretrained.step:,}"
    text = f"{name}: {model['num_layers']} blocks of width {model['hidden_dim']}"
    if run.config.kind == "images":
        return f"{text}, patches of {model['patch_size']} pixels"
    return text if pretrained.has_read else f"{text}; it was not trained on text"


def _training(run):
    config, count = run.config, run.data.train.count
    steps = config.steps_for(count)
    rates = f"{len(config.grid)} rates" if run.sweep else f"rate {config.optimizer.learning_rate:g}"
    runs = f", {run.seeds} seeds" if run.seeds > 1 else ""
    fields = ["steps", "epochs", "batch", *([] if run.sweep else ["optimizer.learning_rate"])]
    return (
        f"{steps:,} steps of {config.batch}: {passes(steps, config.batch, count)} passes; "
        f"{config.optimizer.name}, {rates}{runs}{_chosen(run, *fields)}"
    )


def _chosen(run, *fields):
    """Those of some fields that were chosen for the data, as they can be set: str."""
    values = {field: run.config.value(field) for field in fields if field in run.chosen}
    said = [
        f"{field}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for field, value in values.items()
    ]
    return f" ({' '.join(said)})" if said else ""


def _counts(train, validation):
    return f"{train.records.count:,} for training, {validation.records.count:,} for validation"


def _classes(names, counts=None):
    shown = ", ".join(names[:_CLASSES_SHOWN]) + (", ..." if len(names) > _CLASSES_SHOWN else "")
    each = ""
    if counts is not None:
        least, most = int(counts.min()), int(counts.max())
        each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        each = f"; {each} training examples each"
    return "classes", f"{len(names):,}: {shown}{each}"


def _device(run):
    holder = device_type(run.strategy)
    kind = {"tpu": "TPU", "host": f"CPU, {available_cores()} cores"}.get(holder)
    kind = kind or gpus()[0][0] or "GPU"
    many = f"{run.replicas} x " if run.replicas > 1 else ""
    by = "; JAX" if keras.backend.backend() == "jax" else ""
    return "device", f"{many}{kind}; {run.config.dtype}{by}"


def _crops(views):
    low, high = (round(100 * part) for part in views.crop_area)
    return f"crops of {low} to {high} % of the area" if low < 100 else "not cropped"

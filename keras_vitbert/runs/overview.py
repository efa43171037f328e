"""A run's data, model and training as a short table, printed before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_vitbert.configs.fine_tuning import ImageSettings, TaskSettings
from keras_vitbert.configs.pretraining import Pretraining
from pipelines.cores import available_cores
from tpu.devices import device_type, gpus

if TYPE_CHECKING:
    from keras_vitbert.runs.run import Run

_CLASSES_SHOWN = 6


def overview(run: Any) -> str:
    """The table of an opened `PretrainingRun` or `FineTuningRun`, below notices about its data."""
    is_pretraining = isinstance(run.config, Pretraining)
    every = () if is_pretraining else run.data.values()
    notices = [str(notice) for data in every for notice in data.notices]
    rows = _pretraining_rows(run) if is_pretraining else _fine_tuning_rows(run)
    rows += [("device", _device(run)), ("folder", run.folder.path)]
    width = max(len(subject) for subject, _ in rows) + 2
    return "\n".join([*notices, *(f"  {subject:<{width}}{text}" for subject, text in rows)])


def passes(steps: int, batch: int, count: int) -> str:
    """How often a run sees each of `count` training examples."""
    times = steps * batch / count
    return f"{times:,.0f}" if times >= 10 else f"{times:.2g}"


def _pretraining_rows(run: Any) -> list[tuple[str, str]]:
    config, variant, data = run.config, run.variant, run.data
    model, rows, batches = config.model, [], []
    for kind, is_used, train, validation, batch in (
        ("images", variant.images, data.images, data.image_validation, config.image_batch_size),
        ("texts", variant.text, data.texts, data.text_validation, config.text_batch_size),
    ):
        if is_used:
            count, held_out = train.records.count, validation.records.count
            rows.append((kind, f"{count:,} for training, {held_out:,} for validation"))
            times = passes(config.steps, batch, count)
            batches.append(f"{batch} {kind} ({times} passes)")
    if variant.images and data.classes:
        rows.append(("classes", _classes(data.classes)))
    shape = f"{model.num_layers} blocks of width {model.hidden_dim}"
    rows.append(("model", f"{variant.name}: {shape}"))
    rows.append(("training", f"{config.steps:,} steps of {' and '.join(batches)}"))
    if config.distillation.ratio > 0:
        given = run.teacher_paths
        own = (given.get(kind) or f"own {kind} teacher" for kind in ("image", "text"))
        rows.append(("teachers", "; ".join(own)))
    return rows


def _fine_tuning_rows(run: Any) -> list[tuple[str, str]]:
    config, rows, steps, batches = run.config, [], 0, []
    model = run.pretrained.fine_tuned_model(config)
    for section, settings in config.tasks.items():
        data, kind = run.data[section], "images" if settings.kind == "images" else "texts"
        rows += _data_rows(data, settings, kind, model["max_sequence_length"])
        count = data.train.count
        steps = config.steps_for(count)
        of_kind = f" {kind}" if section else ""
        most = config.most_steps or steps
        times = passes(most, settings.batch, count)
        batches.append(f"{settings.batch}{of_kind}: {times} passes")
    rows.append(("model", _initial_model(run, model)))
    rates = f"{len(config.grid)} rates" if run.sweep else f"rate {config.optimizer.learning_rate:g}"
    seeds = f", {run.seeds} seeds" if run.seeds > 1 else ""
    training = f"{steps:,} steps of {' and '.join(batches)}"
    if config.most_steps:
        training = f"while held-out examples get better, from {steps:,} to at most "
        training += f"{config.most_steps:,} steps of {' and '.join(batches)}"
    rows.append(("training", f"{training}; {config.optimizer.name}, {rates}{seeds}"))
    chosen = {field: config.value(field) for field in run.chosen}
    if run.sweep:
        chosen.pop("optimizer.learning_rate", None)
    if chosen:
        rows.append(("chosen", " ".join(f"{name}={_flag(x)}" for name, x in chosen.items())))
    return rows


def _data_rows(data: Any, settings: TaskSettings, kind: str, longest: int) -> list[tuple[str, str]]:
    """The data of a task."""
    splits = {"train": data.train, **data.tests}
    counts = ", ".join(f"{name} {split.count:,}" for name, split in splits.items())
    picked = f"; {data.picked_on} picks the rate of a sweep" if data.picked_on else ""
    rows = [("data", f"{kind}: {counts}{picked}")]
    if isinstance(settings, ImageSettings):
        rows.append(("images", _views(settings)))
    else:
        labelled = data.train.rows
        if labelled is not None and labelled.sentence_columns:
            names = " and ".join(labelled.sentence_columns)
            rows.append(("columns", f"texts {names}; classes {labelled.label_column}"))
        full = float((data.train.lengths >= longest).mean())
        cut = f"; {full:.1%} fill all of them and may be cut off" if full else ""
        rows.append(("texts", f"{longest} tokens at most{cut}"))
    each, sizes = "", data.train.class_counts(len(data.classes))
    if sizes is not None:  # records are not read through for it
        least, most = f"{int(sizes.min()):,}", f"{int(sizes.max()):,}"
        each = f"; {least if least == most else f'{least} to {most}'} training examples each"
    rows.append(("classes", f"{_classes(data.classes)}{each}"))
    return rows


def _views(settings: ImageSettings) -> str:
    views = settings.images
    smallest = views.crop_area[0]
    words = [f"{settings.image_size} pixels"]
    words.append(f"crops of at least {smallest:.0%} of the area" if smallest < 1 else "not cropped")
    words += ["mirrored at random"] if views.flip else []
    return ", ".join([*words, *(layer["class_name"] for layer in views.augmentations)])


def _initial_model(run: Any, model: dict[str, Any]) -> str:
    pretrained, name = run.pretrained, run.pretrained.name
    if pretrained.architecture:
        name = f"random weights, {pretrained.architecture}"
    elif pretrained.step:
        name += f", step {pretrained.step:,}"
    text = f"{name}: {model['num_layers']} blocks of width {model['hidden_dim']}"
    knows = pretrained.has_read or "text" not in run.config.modalities
    return text if knows else f"{text}; it was not trained on text"


def _flag(value: Any) -> str:
    """A value as a flag takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _classes(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _CLASSES_SHOWN else ""
    return f"{len(names):,}: {', '.join(names[:_CLASSES_SHOWN])}{more}"


def _device(run: Run) -> str:
    kinds = {"tpu": "TPU", "host": f"CPU, {available_cores()} cores"}
    kind = kinds.get(device_type(run.strategy)) or gpus()[0][0] or "GPU"
    many = f"{run.replicas} x " if run.replicas > 1 else ""
    by = "; JAX" if keras.backend.backend() == "jax" else ""
    return f"{many}{kind}; {run.config.dtype}{by}"

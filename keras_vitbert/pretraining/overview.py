"""The table of what `pretrain` found and will do."""

from keras_vitbert.runs import overview


def rows(run):
    """The rows of `keras_vitbert.runs.overview.table` for a run.

    Args:
        run: `keras_vitbert.pretraining.run.PretrainingRun`.

    Returns:
        list of (str, str).
    """
    config, variant, data = run.config, run.variant, run.data
    model = config.model
    found = []
    if variant.images:
        found.append(("images", _counts(data.images, data.image_validation)))
        if data.classes:
            found.append(overview.class_row(data.classes, None))
        found.append(
            (
                "",
                f"resized to {model.image_size} pixels, patches of {model.patch_size} pixels; "
                f"{_views(config)}",
            )
        )
    if variant.text:
        found.append(("texts", _counts(data.texts, data.text_validation)))
        found.append(
            (
                "",
                f"{data.texts.length} tokens, {len(data.vocabulary):,} in the vocabulary, "
                f"{'lower-cased' if config.data.case == 'lower' else config.data.case}",
            )
        )
    found += [
        ("model", f"{variant.name}: {model.num_layers} blocks of width {model.hidden_dim}"),
        overview.device_row(run.strategy, config.dtype),
        ("training", _training(run)),
    ]
    if config.distillation.ratio > 0:
        found.append(("teachers", _teachers(run)))
    if config.masks:
        found.append(("masks", _masks(config)))
    found.append(("folder", run.folder.path))
    return found


def _counts(train, validation):
    return f"{train.records.count:,} for training, {validation.records.count:,} for validation"


def _views(config):
    views = config.data.images
    mirrored = "mirrored at random" if views.flip else "not mirrored"
    layers = "".join(f", then {layer['class_name']}" for layer in views.layers)
    return f"{overview.crops(views.crop_area)}, {mirrored}{layers}"


def _training(run):
    config, data = run.config, run.data
    parts = []
    for kind, source, batch in (
        ("images", data.images if run.variant.images else None, config.image_batch),
        ("texts", data.texts if run.variant.text else None, config.text_batch),
    ):
        if source is not None:
            times = overview.passes(config.steps, batch, source.records.count)
            parts.append(f"{batch} {kind} ({times} passes)")
    return f"{config.steps:,} steps of {' and '.join(parts)}"


def _teachers(run):
    config = run.config
    found = []
    for name, kind, steps in (
        ("vit", "image", config.teachers.image_steps),
        ("bert", "text", config.teachers.text_steps),
    ):
        path = run.teacher_paths.get(kind)
        own = f"{name}, {steps or config.steps:,} steps, trained first unless it exists"
        found.append(f"{kind}s: {path or own}")
    return "; ".join(found)


def _masks(config):
    merge = config.merge
    updates = merge.mask_updates
    last = updates * merge.mask_update_interval
    return (
        f"{merge.mask_ratio:.0%} cleared by {updates} updates, every "
        f"{merge.mask_update_interval:,} steps up to step {last:,}"
    )

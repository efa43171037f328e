"""Numbers of steps given as a fraction of the run, such as `validation_interval=0.05`."""

from keras_vitbert.configs.fitting import fit_fine_tuning, fit_pretraining, largest_mask_interval
from keras_vitbert.configs.overrides import flatten
from pipelines.command_line import say

# The keys that may be given this way.
OF_PRETRAINING = (
    *("steps_per_epoch", "validation_interval", "checkpoint_interval"),
    *("optimizer.warmup_steps", "merge.mask_update_interval"),
    *("teachers.image_steps", "teachers.text_steps"),
    *("inspection.activation_interval", "inspection.gradient_interval"),
)
OF_FINE_TUNING = ("steps_per_epoch", "evaluation_interval", "checkpoint_interval")

_EPOCH = "steps_per_epoch"
# Keys that are rounded further, to multiples of others; see `keras_vitbert.configs.fitting`.
_ROUNDED = (_EPOCH, "validation_interval", "evaluation_interval", "checkpoint_interval")
_MASKS = "merge.mask_update_interval"


def resolve_parts(config, given, steps=0):
    """Turns fractions of the run into whole steps that are compatible, and reports them.

    Each is rounded to the nearest step, at least 1. What must be a multiple of another value is
    rounded to one. `steps_per_epoch` follows a smaller fraction, unless it is given itself.

    Args:
        config: `ConfigDict`; not changed.
        given: `keras_vitbert.configs.overrides.Given`.
        steps: int, of the run; used where the config has 0, as the steps follow from the data.

    Returns:
        A new `ConfigDict`; with the same values if the number of steps is not known.
    """
    config = config.copy_and_resolve_references()
    flat = flatten(config)
    steps = flat["steps"] or steps
    if not (given.parts and steps):
        return config
    free = {key for key in given.parts if key in _ROUNDED}
    for key, part in given.parts.items():
        flat[key] = max(round(part * steps), 1)
        if key in ("validation_interval", "evaluation_interval") and _EPOCH not in given.keys:
            free.add(_EPOCH)
    if "optimizer.warmup_steps" in given.parts:
        flat["optimizer.warmup_steps"] = min(flat["optimizer.warmup_steps"], steps - 1)
    if _MASKS in given.parts:
        most = largest_mask_interval(flat)
        if most and round(given.parts[_MASKS] * steps) == most + 1:  # a fifth for five updates
            flat[_MASKS] = most
    is_pretraining = "validation_interval" in flat
    found = fit_pretraining(flat, free, False) if is_pretraining else fit_fine_tuning(flat, free)
    names = [key for key in flat if key in given.parts or found[key] != flat[key]]
    config.update_from_flattened_dict({key: found[key] for key in names})
    say(f"of {steps} steps: {', '.join(f'{key}={found[key]}' for key in names)}")
    return config

"""Values of a config that must be compatible: fits some of them to the others.

A flat config is a dict of dotted keys to values; see `keras_vitbert.configs.overrides.flatten`.
"""

import math
import shlex

from keras_vitbert.configs.merges import has_masks
from keras_vitbert.configs.variants import mask_updates

# Events that must fall between two executions. In pre-training a validation comes at the end of an
# epoch; in fine-tuning the length of an epoch may follow from the interval.
_EXECUTION_ENDS = (
    *("steps", "steps_per_epoch", "checkpoint_interval", "merge.mask_update_interval"),
    *("teachers.image_steps", "teachers.text_steps", "evaluation_interval"),
)


def execution_ends(flat):
    """The keys of a config, of pre-training or fine-tuning, that say when an execution must end.

    Args:
        flat: flat config.

    Returns:
        list of str, without keys whose value is chosen later or means none.
    """
    return [key for key in _EXECUTION_ENDS if flat.get(key, 0) > 0]


def fit_pretraining(flat, free, masks):
    """Fits values of a pre-training config to the others.

    Args:
        flat: flat config whose values are in their own ranges; not changed.
        free: collection of str, the keys that may change.
        masks: bool, whether gradients are masked where `merge.name` has masks.

    Returns:
        flat config. What cannot be fitted within `free` is left as it was.
    """
    flat = dict(flat)
    _fit_batch(flat, free, "image_batch", "data.images.")
    _fit_multiple(flat, free, "model.num_heads", "model.hidden_dim")
    _fit_multiple(flat, free, "model.patch_size", "model.image_size")
    _fit_steps(flat, free, masks and has_masks(flat["merge.name"]))
    _fit_executions(flat, free)
    _fit_interval(flat, free, "validation_interval")
    return flat


def fit_fine_tuning(flat, free):
    """Fits values of a fine-tuning config to the others.

    Args:
        flat, free: as in `fit_pretraining`.

    Returns:
        flat config.
    """
    flat = dict(flat)
    if "images.mixup" in flat:
        _fit_batch(flat, free, "batch", "images.")
    _fit_executions(flat, free)
    _fit_interval(flat, free, "evaluation_interval")
    return flat


def overrides_that_work(flat, given, check, fit):
    """Finds overrides that remove the problems of a config.

    It first fits the values that were not given to the given ones and to the length of the run. If
    that is not enough, it fits the given ones too, and last the length.

    Args:
        flat: flat config.
        given: `keras_vitbert.configs.overrides.Given`.
        check: callable of a flat config that returns its `Requirements`.
        fit: callable of (flat config, free keys) that returns a fitted one.

    Returns:
        str, arguments for the command that `check` has passed; empty if none were found.
    """
    checks = check(flat)
    bad = checks.problems.keys() - checks.conflicts
    base = {**flat, **{key: given.defaults[key] for key in bad if key in given.defaults}}
    if (again := check(base)).problems.keys() - again.conflicts:
        return ""  # the config came with bad values
    for fixed in ({"steps", *given.keys} - bad, {"steps"} - bad, given.keys - bad, set()):
        found = fit(base, flat.keys() - fixed)
        again = check(found)
        if again.problems and not again.problems.keys() & fixed:
            # Values without effect and the like get what the config came with.
            found |= {key: given.defaults.get(key, found[key]) for key in again.problems}
            again = check(found := fit(found, flat.keys() - fixed))
        if not again.problems:
            changed = [key for key in flat if found[key] != flat[key]]
            if any(isinstance(flat[key], list) and key in given.keys for key in changed):
                return ""  # a tuple that is given again is joined to the first
            return " ".join(as_argument(f"config.{key}", found[key]) for key in changed)
    return ""


def as_argument(flag, value):
    """`--FLAG=VALUE`, as a shell takes it: str.

    Args:
        flag: str, such as `config.batch`.
        value: of a flat config.
    """
    return shlex.quote(f"--{flag}={tuple(value) if isinstance(value, list) else value}")


def largest_mask_interval(flat):
    """The largest `merge.mask_update_interval` that lets the masks finish: int, or 0."""
    return (flat["steps"] - 1) // max(mask_updates(flat), 1)


def nearest_divisor(number, to):
    """The divisor of a number that is nearest to another, by their ratio: int.

    Args:
        number, to: int, at least 1.
    """
    small = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    return min([*small, *(number // n for n in small)], key=lambda n: abs(math.log(n / to)))


def _multiple(number, of):
    """The multiple of `of` that is nearest to a number, but at least `of` itself."""
    return max(round(number / of), 1) * of


def _fit_batch(flat, free, key, prefix):
    mixed = flat[f"{prefix}mixup"] or flat[f"{prefix}cutmix"]
    if mixed and flat[key] % 2 and key in free:
        flat[key] = max(flat[key] - 1, 2)


def _fit_multiple(flat, free, part, whole):
    if flat[whole] % flat[part] == 0:
        return
    if part in free:
        flat[part] = nearest_divisor(flat[whole], flat[part])
    elif whole in free:
        flat[whole] = _multiple(flat[whole], flat[part])


def _fit_steps(flat, free, masks):
    """Fits warm-up, teachers' steps and the schedule of the masks to the steps of the run."""
    warmup, interval = "optimizer.warmup_steps", "merge.mask_update_interval"
    teachers = ("teachers.image_steps", "teachers.text_steps")
    if "steps" in free:
        # Only for dependent values that may not change.
        needed = flat["steps"]
        if warmup not in free:
            needed = max(needed, flat[warmup] + 1)
        if masks and interval not in free:
            needed = max(needed, mask_updates(flat) * flat[interval] + 1)
        flat["steps"] = needed
    if flat[warmup] >= flat["steps"] and warmup in free:
        flat[warmup] = flat["steps"] // 10
    for key in teachers:
        if 0 < flat[key] <= flat[warmup]:
            if key in free:
                flat[key] = 0
            elif warmup in free:
                flat[warmup] = flat[key] // 10
    if masks and flat[interval] > (most := largest_mask_interval(flat)) and interval in free:
        per_update = "merge.mask_ratio_per_update"
        if not most and per_update in free and flat["steps"] > 1:  # all in as many updates as fit
            flat[per_update] = flat["merge.mask_ratio"] / (flat["steps"] - 1)
            most = largest_mask_interval(flat)
        if not most and "steps" in free:
            flat["steps"], most = mask_updates(flat) + 1, 1
        flat[interval] = most or flat[interval]


def _fit_executions(flat, free):
    """Fits what must fall between two executions, or leaves their length to the devices."""
    executed = max(flat["steps_per_execution"], 1)
    uneven = [key for key in execution_ends(flat) if flat[key] % executed]
    if uneven and "steps_per_execution" in free:
        flat["steps_per_execution"] = 0
        return
    for key in set(uneven) & set(free):
        flat[key] = _multiple(flat[key], executed)


def _fit_interval(flat, free, interval):
    """Makes an interval a multiple of `steps_per_epoch`, unless one follows from the other."""
    epoch = "steps_per_epoch"
    if flat[epoch] < 1 or flat[interval] < 0:
        return
    if epoch in free and 0 < flat[interval] < flat[epoch]:
        flat[epoch] = flat[interval]
    if flat[interval] % flat[epoch] == 0:
        return
    if interval in free:
        flat[interval] = _multiple(flat[interval], flat[epoch])
    elif epoch in free:
        flat[epoch] = nearest_divisor(flat[interval], flat[epoch])

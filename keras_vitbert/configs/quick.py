"""`--quick`: shrinks a config to a run of about ten minutes on a laptop with two cores.

What the command line gives is kept, and the rest is fitted to it. The number of steps follows from
an estimate of the cost of a step.
"""

import math

from keras_vitbert.configs.fitting import fit_fine_tuning, fit_pretraining, largest_mask_interval
from keras_vitbert.configs.overrides import flatten
from keras_vitbert.configs.sizes import SIZES
from keras_vitbert.configs.variants import mask_updates
from pipelines.command_line import say

# Floating-point operations: two cores do about 60e9 per second in these models. The rest of the ten
# minutes goes into loading, tracing, validation and pictures.
_TRAINING, _EVALUATION = 20e12, 8e12
_MOST_STEPS, _FEWEST_STEPS = 500, 20
_POINTS = 20  # of a curve

_IMAGE_SIZE, _PATCHES = 64, 8  # pixels; patches along a side
_IMAGE_TOKENS, _TEXT_TOKENS = 2_176, 4_096  # per step, as in the sample
_TEXTS = {"files": (512, 30_000), "sample": (64, 2_000)}  # length, vocabulary; if set by the data
_MASKED = 0.15
_LEARNING_RATE = 2e-3  # of a model of the sample's size

_MOST_FINE_TUNING_STEPS = 200
_FINE_TUNING_BATCH = {"images": 64, "text": 16}
_FINE_TUNING_LENGTH = 128
_FEWEST_TESTED, _MOST_TESTED = 100, 5_000


def quick_pretraining(config, given, variant, kept=()):
    """Shrinks a pre-training config, and reports what that changes.

    Args:
        config: `ConfigDict`, with the overrides of the command line; not changed.
        given: `keras_vitbert.configs.overrides.Given`.
        variant: `keras_vitbert.configs.variants.Variant`.
        kept: collection of str, prefixes of further keys that must not change.

    Returns:
        A new `ConfigDict`.
    """
    flat = flatten(config)
    free = {key for key in flat if key not in given.keys and not key.startswith(tuple(kept))}
    found = dict(flat)

    def shrink(key, most):
        if key in free and found[key] > most:
            found[key] = most

    for name, size in SIZES["sample"].items():
        shrink(f"model.{name}", size)
    if found["model.hidden_dim"] < flat["model.hidden_dim"] and "optimizer.learning_rate" in free:
        found["optimizer.learning_rate"] = max(flat["optimizer.learning_rate"], _LEARNING_RATE)
    _shrink_image(found, free)
    tokens = (found["model.image_size"] // found["model.patch_size"]) ** 2 + 1
    length, words = _TEXTS.get(found["data.source"], _TEXTS["files"])
    length = found["model.max_sequence_length"] or length
    words = found["model.vocabulary_size"] or words
    shrink("image_batch", _power_of_two(_IMAGE_TOKENS / tokens, 4))
    shrink("text_batch", _power_of_two(_TEXT_TOKENS / length, 2))

    model = {key.removeprefix("model."): found[key] for key in found if key.startswith("model.")}
    cost = variant.images * found["image_batch"] * _encoder_cost(model, tokens)
    cost += variant.text * found["text_batch"] * _encoder_cost(model, length)
    cost += variant.text * found["text_batch"] * _MASKED * length * 6 * words * model["hidden_dim"]
    cost *= 1 + variant.distillation * 4 / 3  # the teachers' answers and their training
    shrink("steps", min(max(_whole(_TRAINING / cost), _FEWEST_STEPS), _MOST_STEPS))
    if found["steps"] != flat["steps"]:
        _space_out(found, free)
    for key in ("teachers.image_steps", "teachers.text_steps"):
        shrink(key, max(found["steps"], _MOST_STEPS))
    return _changed(config, fit_pretraining(found, free - {"steps"}, variant.masks))


def quick_fine_tuning(config, given, kind, model, trials=1):
    """Shrinks a fine-tuning config, and reports what that changes.

    Args:
        config: `ConfigDict`, with the overrides of the command line; not changed.
        given: `keras_vitbert.configs.overrides.Given`.
        kind: str, `images` or `text`.
        model: dict, the `model` section of the checkpoint, whose architecture is kept.
        trials: int, how many training runs share the time.

    Returns:
        A new `ConfigDict`.
    """
    found = flatten(config)
    free = found.keys() - given.keys

    def shrink(key, most):
        if key in free and not 0 < found[key] <= most:  # 0 stands for all
            found[key] = most

    batch = found["batch"] or _FINE_TUNING_BATCH[kind]  # 0 is chosen for the data, and may be less
    if "batch" in free:
        batch = min(batch, _FINE_TUNING_BATCH[kind])
    if kind == "images":
        patch = model["patch_size"]
        # The checkpoint's own size needs no interpolation of positions.
        shrink("image_size", max(min(model["image_size"], 224) // patch, 1) * patch)
        tokens = (found["image_size"] // patch) ** 2 + 1
    else:
        if model["max_sequence_length"] > _FINE_TUNING_LENGTH:
            shrink("max_length", _FINE_TUNING_LENGTH)
        tokens = found["max_length"] or model["max_sequence_length"]
    cost = _encoder_cost(model, tokens) * trials
    while "batch" in free and batch > 4 and cost * batch * _MOST_FINE_TUNING_STEPS > _TRAINING:
        batch //= 2
    if found["batch"] or batch < _FINE_TUNING_BATCH[kind]:
        found["batch"] = batch
    if "epochs" not in given.keys:
        steps = max(_whole(_TRAINING / (cost * batch)), _FEWEST_STEPS)
        shrink("steps", min(steps, _MOST_FINE_TUNING_STEPS))
    # Evaluation is a third of training.
    shrink("test_examples", min(max(int(3 * _EVALUATION / cost), _FEWEST_TESTED), _MOST_TESTED))
    if found["steps"]:
        shrink("steps_per_epoch", max(found["steps"] // _POINTS, 1))
        shrink("checkpoint_interval", max(found["steps"] // 2, 1))
    return _changed(config, fit_fine_tuning(found, free - {"steps"}))


def _shrink_image(found, free):
    """Reduces the pixels, and enlarges the patches where there are too many of them."""
    size, patch = "model.image_size", "model.patch_size"
    if size in free and found[size] > _IMAGE_SIZE:
        found[size] = _IMAGE_SIZE
        if patch not in free:
            found[size] = max(_IMAGE_SIZE // found[patch], 1) * found[patch]
    if patch in free and (found[size] % found[patch] or found[size] // found[patch] > _PATCHES):
        found[patch] = min(n for n in range(1, found[size] + 1) if _is_patch(n, found[size]))


def _is_patch(patch, size):
    return size % patch == 0 and size // patch <= _PATCHES


def _space_out(found, free):
    """Fits intervals and warm-up to the steps of the run, for 20 points per curve."""
    steps = found["steps"]
    epoch = max(steps // _POINTS, 1)
    spaced = {
        "steps_per_epoch": epoch,
        "validation_interval": epoch * (_POINTS // 2),
        "checkpoint_interval": epoch * (_POINTS // 4),
        "optimizer.warmup_steps": steps // 10,
        "merge.mask_update_interval": max(
            min(steps // (4 * max(mask_updates(found), 1)), largest_mask_interval(found)), 1
        ),
        "inspection.activation_interval": epoch * (_POINTS // 2),
        "inspection.gradient_interval": epoch * 2,
        "teachers.image_steps": steps,
        "teachers.text_steps": steps,
    }
    for key, value in spaced.items():
        if key in free and found[key] > value:  # 0 turns it off, or means as many as the student
            found[key] = value


def _encoder_cost(model, tokens):
    """Floating-point operations of training on one example."""
    width, layers = model["hidden_dim"], model["num_layers"]
    weights = layers * (4 * width**2 + 2 * width * model["intermediate_dim"])
    return tokens * (6 * weights + 12 * layers * tokens * width)


def _whole(steps):
    """The number of steps, rounded down to whole intervals."""
    return int(steps) // _POINTS * _POINTS


def _power_of_two(number, least):
    return max(2 ** int(math.log2(max(number, 1))), least)


def _changed(config, found):
    """The config with the values that were found; reports how they differ from those it had."""
    flat = flatten(config)
    shrunk = config.copy_and_resolve_references()
    shrunk.update_from_flattened_dict({k: found[k] for k in flat if found[k] != flat[k]})
    changes = ", ".join(f"{key}={value}" for key, value in found.items() if value != flat[key])
    say(f"--quick: {changes or 'changes nothing, the config is small enough'}")
    return shrunk

"""Refuses a model that does not fit into memory, before TensorFlow asks for the memory.

All estimates are low: a refused model cannot be trained, an accepted one may still be too large.
"""

from collections.abc import Mapping
from typing import Any

from keras_vitbert.configs.optimizers import KEPT
from pipelines.memory import all_memory

# Bytes: more than any machine has, and more than any core of a TPU has.
_ANY_MACHINE, _ANY_TPU_CORE = 1 << 46, 10**11
# Sizes of a large model; an error blames the size that exceeds its entry by the largest factor.
_LARGE = {
    "num_layers": 24,
    "num_heads": 16,
    "hidden_dim": 1024,
    "intermediate_dim": 4096,
    "image_size": 384,
    "num_classes": 1000,
    "vocabulary_size": 30_000,
    "max_sequence_length": 512,
    "images": 4096,
    "texts": 4096,
}


def parameters(model: Mapping[str, Any], images: bool, text: bool) -> int:
    """A network's parameters, or somewhat fewer: those of its kernels and embeddings.

    Args:
        model: the `model` section of a config.
        images, text: the modalities that it has.

    Returns:
        The number of parameters.
    """
    rows = model["num_layers"] * (4 * model["hidden_dim"] + 2 * model["intermediate_dim"])
    if images:
        patch = model["patch_size"]
        rows += (model["image_size"] // patch) ** 2 + 3 * patch**2
    if text:
        rows += model["vocabulary_size"] + model["max_sequence_length"]
    return model["hidden_dim"] * rows


def require_memory(
    model: Mapping[str, Any],
    images: int = 0,
    texts: int = 0,
    *,
    classes: int = 0,
    text_length: int = 0,
    workers: int = 1,
    moments: int | None = 2,
    on: str = "host",
    shards: int = 1,
    flags: Mapping[str, str] | None = None,
):
    """Refuses a model and a batch that do not fit into memory.

    Args:
        model: the `model` section of a config; 0 for sizes that are not known yet.
        images, texts: how many there are in a step; 0 without that modality.
        classes: how many classes of images a head has; 0 if it is not known yet.
        text_length: the length of the texts in tokens; 0 if it is not known.
        workers: how many machines share a step, times the parts that each divides it into.
        moments: values that the optimiser keeps for each weight; None without gradients.
        on: what holds the weights: `host`, this machine's memory; `gpu`, whose size is not known
            here; or `tpu`.
        shards: how many devices share the weights; 1 if each has all of them.
        flags: the flags to blame for sizes, and for `images` and `texts`.

    Raises:
        ValueError: names the size that most exceeds that of a large model.
    """
    count = parameters(model, images > 0, texts > 0) + model["hidden_dim"] * classes
    weights = 4 * count * (1 if moments is None else 2 + moments)
    activation = _largest_activation(model, images // workers, texts // workers, text_length)
    most, room = _ANY_MACHINE, "more than any machine has"
    if on == "host" and all_memory() < most:
        most = all_memory()
        room = f"this machine has {_gigabytes(most)}"
    if on == "tpu" and weights > shards * _ANY_TPU_CORE:
        cores = "no core of a TPU has" if shards == 1 else f"no {shards} cores of a TPU have"
        most, room = 0, f"{cores} more than {_gigabytes(shards * _ANY_TPU_CORE)}"
    if weights + activation <= most:
        return
    sizes = {**model, "images": images, "texts": texts}
    culprit = max(_LARGE, key=lambda name: (sizes.get(name) or 0) / _LARGE[name])
    own = {"images": "--config.image_batch", "texts": "--config.text_batch", **(flags or {})}
    flag = own.get(culprit, f"--config.model.{culprit}")
    state = "" if moments is None else " with gradients and moments"
    raise ValueError(
        f"{flag}={sizes[culprit]}: is too large: {count:,} weights{state} take "
        f"{_gigabytes(weights)}, the largest activation {_gigabytes(activation)}; {room}"
    )


def moments_of(config) -> int:
    """How many values the optimiser of a config keeps for each weight.

    Args:
        config: `ConfigDict`.
    """
    return KEPT[config.optimizer.name] + (config.optimizer.ema > 0)


def shards_of(config, replicas: int) -> int:
    """How many devices share the weights of a config.

    Args:
        config: `ConfigDict`.
        replicas: how many devices share a step.
    """
    return replicas if config.sharding == "fsdp" else 1


def require_pretraining_memory(
    config, variant, workers: int, on: str, text_length: int = 0, replicas: int = 1
):
    """Refuses a run of `pretrain` that does not fit into memory.

    Args:
        config: `ConfigDict`.
        variant: `keras_vitbert.configs.variants.Variant`.
        workers, on, text_length: see `require_memory`.
        replicas: how many devices share a step.

    Raises:
        ValueError: names the size that most exceeds that of a large model.
    """
    require_memory(
        config.model,
        images=config.image_batch * variant.images,
        texts=config.text_batch * variant.text,
        classes=config.model.num_classes * variant.images,
        text_length=text_length,
        workers=workers * config.accumulation,
        moments=moments_of(config),
        on=on,
        shards=shards_of(config, replicas),
    )


def _largest_activation(model, images, texts, text_length):
    """The bytes of the largest tensor of a step: pixels, attention scores, or a hidden layer."""
    size = model["image_size"] if images else 0
    largest = images * 3 * size**2
    for count, length in ((images, (size // model["patch_size"]) ** 2), (texts, text_length)):
        width = max(model["num_heads"] * length, model["intermediate_dim"])
        largest = max(largest, 2 * count * length * width)  # in bfloat16
    return largest


def _gigabytes(count):
    return f"{count / 1e9:,.1f} GB"

"""The variants of the paper's Table 1: ViT-BERT with some of its parts left out."""

import dataclasses
import math

from keras_vitbert.configs.checks import require_shares
from keras_vitbert.configs.merges import has_masks, without_masks
from keras_vitbert.configs.overrides import flatten
from pipelines.command_line import meant


@dataclasses.dataclass(frozen=True)
class Variant:
    """A row of the paper's Table 1.

    Attributes:
        name: str, the value of `--variant`.
        images, text: bool, the modalities it is trained on.
        distillation: bool, whether teachers are used.
        masks: bool, whether gradients are masked.
    """

    name: str
    images: bool = True
    text: bool = True
    distillation: bool = False
    masks: bool = False


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("bert", images=False),
        Variant("vit", text=False),
        Variant("joint"),
        Variant("vitbert", distillation=True, masks=True),
        Variant("vitbert_no_kd", masks=True),
        Variant("vitbert_no_gm", distillation=True),
    )
}


def find_variant(name, flag="variant"):
    """Looks up a variant.

    Args:
        name: str.
        flag: str, the flag to blame.

    Raises:
        ValueError: there is no such variant.
    """
    if name not in VARIANTS:
        raise ValueError(
            f"--{flag}={name}: no such variant; give one of {', '.join(VARIANTS)}"
            f"{meant(name, VARIANTS)}"
        )
    return VARIANTS[name]


def apply_variant(config, variant):
    """Turns off the settings of a config that a variant does not use.

    Args:
        config: `ConfigDict`; not changed.
        variant: `Variant`.

    Returns:
        A new `ConfigDict`.
    """
    config = config.copy_and_resolve_references()
    if not variant.distillation:
        config.distillation.ratio = 0.0
    if not variant.masks:
        config.merge.name = without_masks(config.merge.name)
        if config.merge.name == "sum":
            config.merge.blocks = ""  # the sum is the same in all blocks
    return config


def check_masks(config, variant):
    """Refuses a schedule of gradient masks that the run is too short for.

    Args:
        config: `ConfigDict`.
        variant: `Variant`.

    Raises:
        ValueError: names the largest interval that reaches `merge.mask_ratio`.
    """
    if problem := mask_problem(flatten(config), variant):
        raise ValueError(problem)


def mask_updates(flat):
    """How many updates the masks take to reach `merge.mask_ratio`: int.

    Args:
        flat: dict of dotted keys to values, a checked config.
    """
    return math.ceil(flat["merge.mask_ratio"] / flat["merge.mask_ratio_per_update"] - 1e-9)


def mask_problem(flat, variant):
    """What is wrong with the schedule of the gradient masks: str, or None.

    Args:
        flat: dict of dotted keys to values, whose own ranges are already checked.
        variant: `Variant`.
    """
    if not (variant.masks and has_masks(flat["merge.name"])):
        return None
    interval, steps, updates = flat["merge.mask_update_interval"], flat["steps"], mask_updates(flat)
    last = updates * interval  # steps before that of the last update
    if last < steps:
        return None
    largest = (steps - 1) // updates
    fix = f"set it to at most {largest}" if largest else f"train more than {updates} steps"
    return (
        f"--config.merge.mask_update_interval={interval}: the masks reach "
        f"mask_ratio={flat['merge.mask_ratio']} by {updates} updates after {last} steps, the run "
        f"has {steps}; {fix}"
    )


def check_shares(config, variant, replicas):
    """Refuses batches that the replicas cannot share evenly.

    Args:
        config: `ConfigDict`.
        variant: `Variant`.
        replicas: int.

    Raises:
        ValueError: names the key and the fix.
    """
    if variant.images:
        images = config.data.images
        require_shares(config, "image_batch", replicas, images.mixup or images.cutmix)
    if variant.text:
        require_shares(config, "text_batch", replicas)

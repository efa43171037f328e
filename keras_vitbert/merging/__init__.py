"""How the gradients of two tasks become one, in `keras.ops`, for any model.

A `Merge` is a weighting, optionally followed by a rule for each entry:

    Merge(PCGrad())
    Merge(Unit(), GradientMask())
    Merge(Nash(), GradientMask(), per_block=True)

`TwoTaskTrainer`, in the module `trainer`, trains a Keras model with it and updates its masks by a
`MaskSchedule`; in a step of your own, masks stay ones until you update them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_vitbert.configs.merges import blocks_of, parts_of
from keras_vitbert.merging.directions import (
    IMTLG,
    MGDA,
    NTKMTL,
    Aligned,
    CAGrad,
    ConFIG,
    DualProj,
    FairGrad,
    GradVac,
    Nash,
    PCGrad,
    SDMGrad,
    UPGrad,
)
from keras_vitbert.merging.entries import GradDrop, GradientMask
from keras_vitbert.merging.loss_weights import (
    DWA,
    FAMO,
    Alternate,
    GradNorm,
    RandomWeights,
    Uncertainty,
)
from keras_vitbert.merging.mask_schedule import MaskSchedule as MaskSchedule
from keras_vitbert.merging.merge import Merge
from keras_vitbert.merging.merge import Merged as Merged
from keras_vitbert.merging.products import Products as Products
from keras_vitbert.merging.weighting import Sum, Unit
from keras_vitbert.merging.weighting import Weighting as Weighting
from keras_vitbert.merging.weighting import Weights as Weights

# By their names in a config; `sum` and `random` are those that take none of its options.
_WEIGHTINGS = {
    "pcgrad": PCGrad,
    "upgrad": UPGrad,
    "dualproj": DualProj,
    "gradvac": GradVac,
    "nash": Nash,
    "fairgrad": FairGrad,
    "imtl_g": IMTLG,
    "conflict_free": ConFIG,
    "ntkmtl": NTKMTL,
    "mgda": MGDA,
    "sdmgrad": SDMGrad,
    "cagrad": CAGrad,
    "aligned": Aligned,
    "uncertainty": Uncertainty,
    "dwa": DWA,
    "gradnorm": GradNorm,
    "famo": FAMO,
    "alternate": Alternate,
}


def get_merge(config: Any, seed: int = 0) -> Merge:
    """Builds the merge of a config's `merge` section.

    Args:
        config: mapping or dataclass with `name`, such as `mask`, `pcgrad` or `mask+pcgrad`, and
            its options, as in `keras_vitbert.configs.paper`; a missing option gets its default.
        seed: int in [0, 2**32), for random merges.

    Raises:
        ValueError: the name is unknown, or an option is out of range.
    """
    config = config if isinstance(config, Mapping) else dataclasses.asdict(config)
    try:
        rule, name = parts_of(config["name"])
    except ValueError as error:
        raise ValueError(f"merge {config['name']!r} {error}") from None
    # The name is in checkpoints; Keras' own would number the layers of a process.
    named: dict[str, Any] = {"name": "merge"}
    total = Sum(config.get("image_loss_ratio", 0.2))
    if name in (None, "sum"):
        weighting = total if name else Unit()
    elif name == "random":
        weighting = RandomWeights(seed)
    else:
        weighting = _WEIGHTINGS[name](**config.get(name, {}), **named)
    if rule is None:
        entries = None
    elif rule == "graddrop":
        entries = GradDrop(seed=seed, **config.get(rule, {}), **named)
    else:
        entries = GradientMask(
            "random" if rule == "random_mask" else config.get("mask_rank", "text"),
            config.get("mask_scope", "all"),
            config.get("mask_cumulative", True),
            config.get("mask_softness", 0.0),
            seed,
            **named,
        )
    blocks = blocks_of(config.get("blocks", ""))
    return Merge(weighting, entries, config.get("per_block", False), blocks, total, **named)

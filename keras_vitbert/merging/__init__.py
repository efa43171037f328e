"""How the gradients of two tasks become one, in `keras.ops`, for any model.

A `Merge` is a weighting, optionally followed by a rule for each entry:

    Merge(PCGrad())
    Merge(Unit(), GradientMask())
    Merge(Nash(), GradientMask(), per_block=True)

`TwoTaskTrainer`, in the module `trainer`, trains a Keras model with it and updates its masks by a
`MaskSchedule`; in a step of your own, masks stay ones until you update them. Options, their
defaults and their ranges are in `keras_vitbert.configs.merges`.
"""

from typing import Any

from keras_vitbert.configs import merges
from keras_vitbert.merging.gradient_balancing import (
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
from keras_vitbert.merging.masks import GradDrop, GradientMask
from keras_vitbert.merging.masks import MaskSchedule as MaskSchedule
from keras_vitbert.merging.merge import Merge
from keras_vitbert.merging.merge import Merged as Merged
from keras_vitbert.merging.weighting import (
    DWA,
    FAMO,
    Alternate,
    GradNorm,
    RandomWeights,
    Sum,
    Uncertainty,
    Unit,
)
from keras_vitbert.merging.weighting import Products as Products
from keras_vitbert.merging.weighting import Weighting as Weighting
from keras_vitbert.merging.weighting import Weights as Weights

# By their names in a config; sections of these names hold their options. `sum` and `random` take
# other values.
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


def get_merge(config: merges.Merge, seed: int = 0) -> Merge:
    """Builds the merge of a config's `merge` section, with a seed in [0, 2**32) if it is random."""
    rule, name = merges.split_name(config.name)
    # The name is in checkpoints; Keras' own would number the layers of a process.
    named: dict[str, Any] = {"name": "merge"}
    total = Sum(config.image_loss_ratio)
    if name in (None, "sum"):
        weighting = total if name else Unit()
    elif name == "random":
        weighting = RandomWeights(seed)
    else:
        options = vars(getattr(config, name, merges.Section()))
        weighting = _WEIGHTINGS[name](**options, **named)
    if rule is None:
        entries = None
    elif rule == "graddrop":
        entries = GradDrop(config.graddrop.leak, seed, **named)
    else:
        criterion = "random" if rule == "random_mask" else config.mask_criterion
        settings = criterion, config.mask_scope, config.mask_cumulative, config.mask_softness
        entries = GradientMask(*settings, seed, **named)
    blocks = merges.blocks_of(config.blocks)
    return Merge(weighting, entries, config.per_block, blocks, total, **named)

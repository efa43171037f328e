"""How the gradients of two tasks become one, in `keras.ops`, for any model.

A `Merge` is a weighting, optionally followed by a rule for each entry:

    Merge(PCGrad())
    Merge(Unit(), GradientMask())
    Merge(Nash(), GradientMask(), per_block=True)

`TwoTaskTrainer`, in the module `trainer`, trains a Keras model with it and updates its masks by a
`MaskSchedule`; in a step of your own, masks stay ones until you update them.
"""

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
from keras_vitbert.merging.mask_schedule import MaskSchedule
from keras_vitbert.merging.merge import Merge, Merged
from keras_vitbert.merging.names import get_merge
from keras_vitbert.merging.products import Products
from keras_vitbert.merging.weighting import Sum, Unit, Weighting, Weights

__all__ = [
    "DWA",
    "FAMO",
    "IMTLG",
    "MGDA",
    "NTKMTL",
    "Aligned",
    "Alternate",
    "CAGrad",
    "ConFIG",
    "DualProj",
    "FairGrad",
    "GradDrop",
    "GradNorm",
    "GradVac",
    "GradientMask",
    "MaskSchedule",
    "Merge",
    "Merged",
    "Nash",
    "PCGrad",
    "Products",
    "RandomWeights",
    "SDMGrad",
    "Sum",
    "UPGrad",
    "Uncertainty",
    "Unit",
    "Weighting",
    "Weights",
    "get_merge",
]

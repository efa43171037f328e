"""Merges against TorchJD, the authors' methods collected for PyTorch; `-s` shows the differences.

LibMTL is not here: what it has beside TorchJD is GradNorm only, with weights that are a softmax of
parameters, trained by the network's optimiser, inside of its trainer.
"""

import numpy as np
import pytest

from keras_vitbert.merging import (
    IMTLG,
    MGDA,
    Aligned,
    CAGrad,
    ConFIG,
    DualProj,
    FairGrad,
    Nash,
    PCGrad,
    SDMGrad,
    UPGrad,
)
from tests.keras_vitbert.merging.pairs import compiled, draw, pair

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch")
aggregation = pytest.importorskip("torchjd.aggregation")
linalg = pytest.importorskip("torchjd.linalg")

PAIRS = {
    **{f"random {seed}": draw(seed) for seed in range(3)},
    "in conflict": pair(0, 0.4, 1, 2),
    "agreeing": pair(1, 1.7, 1, 2),
    "far apart": pair(2, 0.5, 1, 100),
    "1 + c = 1e-2": pair(3, 1e-2),
    "1 - c = 1e-2": pair(4, 2 - 1e-2),
}


def projector():
    # Without the 1e-4 that it adds to the inner products of unit gradients.
    return linalg.QuadprogProjector(norm_eps=1e-30, reg_eps=1e-13)


def sdmgrad(matrix):
    """With the same batch as both that are independent, and steps until nothing moves."""
    weighting = aggregation.SDMGradWeighting(lr=0.3, momentum=0.5, n_iter=3000, lambda_=0.3)
    return weighting(matrix @ matrix.T) @ matrix


def nash():
    """For unit gradients: lengths change nothing, and with them it begins where it can go on.

    It begins at weights of 1, and stays there if their sum points against a gradient. It divides
    the inner products by their norm and leaves the length to `max_norm`.
    """
    theirs = aggregation.NashMTL(n_tasks=2, max_norm=0.0, optim_niter=200)
    return lambda matrix: theirs(matrix / matrix.norm(dim=1, keepdim=True))


# Name: our weighting, its options, theirs, whether only directions agree, relative tolerance.
METHODS = {
    "PCGrad": (PCGrad, {}, lambda: aggregation.PCGrad(), False, 1e-5),
    "UPGrad": (UPGrad, {}, lambda: aggregation.UPGrad(projector=projector()), False, 1e-5),
    "DualProj": (DualProj, {}, lambda: aggregation.DualProj(projector=projector()), False, 1e-5),
    # Its solver is exact for two; the step below which it stops is a parameter.
    "MGDA": (MGDA, {}, lambda: aggregation.MGDA(epsilon=1e-9, max_iters=1000), False, 1e-5),
    # A solver of cones, to about 1e-8 in the objective, so to about 1e-4 in the weights.
    "CAGrad": (
        CAGrad,
        {"radius": 0.5},
        lambda: aggregation.CAGrad(c=0.5, norm_eps=1e-9),
        False,
        1e-3,
    ),
    # It stops at an error of 1e-3 in the equations.
    "NashMTL": (Nash, {}, nash, True, 1e-3),
    # Least squares from equal weights, to about 1e-8 in the sum of squares.
    "FairGrad 1": (
        FairGrad,
        {"alpha": 1.0},
        lambda: aggregation.FairGrad(alpha=1.0, max_iters=10000),
        False,
        1e-3,
    ),
    "FairGrad 2": (
        FairGrad,
        {"alpha": 2.0},
        lambda: aggregation.FairGrad(alpha=2.0, max_iters=10000),
        False,
        1e-3,
    ),
    "IMTLG": (IMTLG, {}, lambda: aggregation.IMTLG(), False, 1e-5),
    "AlignedMTL": (Aligned, {}, lambda: aggregation.AlignedMTL(), False, 1e-5),
    "ConFIG": (ConFIG, {}, lambda: aggregation.ConFIG(), False, 1e-5),
    "SDMGrad": (SDMGrad, {"strength": 0.3}, lambda: sdmgrad, False, 1e-4),
}


def instance(make):
    try:
        return make()
    except ImportError as error:
        pytest.skip(str(error).splitlines()[0])


def difference(value, expected, scale):
    return np.linalg.norm(value - expected) / scale


@pytest.mark.parametrize("name", METHODS)
def test_merged_gradients_are_those_of_torchjd(name):
    make, options, theirs, is_direction, tolerance = METHODS[name]
    found = {}
    for kind, gradients in PAIRS.items():
        matrix = torch.tensor(gradients.astype(np.float64))
        expected = instance(theirs)(matrix).numpy()
        value = compiled(make, **options)(gradients)
        scale = np.linalg.norm(expected)
        if is_direction:
            value, expected, scale = value / np.linalg.norm(value), expected / scale, 1.0
        found[kind] = difference(value, expected, scale)
    what = "direction" if is_direction else "gradient"
    print(f"\n{name:12} {what:9}", *(f"{kind} {x:.0e};" for kind, x in found.items()))
    assert max(found.values()) < tolerance

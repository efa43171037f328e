"""Merges against TorchJD, the authors' methods collected for PyTorch; `-s` shows the differences.

LibMTL is not here: what it has beside TorchJD is GradNorm only, with weights that are a softmax of
parameters, trained by the network's optimiser, inside of its trainer.
"""

import numpy as np
import pytest

from keras_vitbert import merging
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
    """For gradients of about the same length, which changes nothing.

    Theirs begins at weights of 1. It stays there if their sum points against a gradient, and where
    equal weights solve the equations of normalised products, which have another length.
    """
    theirs = aggregation.NashMTL(n_tasks=2, max_norm=0.0, optim_niter=200)
    lengths = torch.tensor([[1.0], [1.005]])
    return lambda matrix: theirs(lengths * matrix / matrix.norm(dim=1, keepdim=True))


# Our weighting, its options, theirs, relative tolerance.
METHODS = {
    "PCGrad": (merging.PCGrad, {}, lambda: aggregation.PCGrad(), 1e-5),
    "UPGrad": (merging.UPGrad, {}, lambda: aggregation.UPGrad(projector=projector()), 1e-5),
    "DualProj": (merging.DualProj, {}, lambda: aggregation.DualProj(projector=projector()), 1e-5),
    # Its solver is exact for two; the step below which it stops is a parameter.
    "MGDA": (merging.MGDA, {}, lambda: aggregation.MGDA(epsilon=1e-9, max_iters=1000), 1e-5),
    # A solver of cones, to about 1e-8 in the objective, so to about 1e-4 in the weights.
    "CAGrad": (
        merging.CAGrad,
        {"radius": 0.5},
        lambda: aggregation.CAGrad(c=0.5, norm_eps=1e-9),
        1e-3,
    ),
    "NashMTL": (merging.Nash, {}, nash, 1e-5),
    "SDMGrad": (merging.SDMGrad, {"strength": 0.3}, lambda: sdmgrad, 1e-4),
    # Least squares from equal weights, to about 1e-8 in the sum of squares.
    **{
        f"FairGrad {alpha}": (
            merging.FairGrad,
            {"alpha": alpha},
            lambda alpha=alpha: aggregation.FairGrad(alpha=alpha, max_iters=10000),
            1e-3,
        )
        for alpha in (1.0, 2.0)
    },
    "IMTLG": (merging.IMTLG, {}, lambda: aggregation.IMTLG(), 1e-5),
    "AlignedMTL": (merging.Aligned, {}, lambda: aggregation.AlignedMTL(), 1e-5),
    "ConFIG": (merging.ConFIG, {}, lambda: aggregation.ConFIG(), 1e-5),
}


def instance(make):
    try:
        return make()
    except ImportError as error:
        pytest.skip(str(error).splitlines()[0])


@pytest.mark.parametrize("name", METHODS)
def test_merged_gradients_are_those_of_torchjd(name):
    make, options, theirs, tolerance = METHODS[name]
    found = {}
    for kind, gradients in PAIRS.items():
        expected = instance(theirs)(torch.tensor(gradients.astype(np.float64))).numpy()
        difference = compiled(make, **options)(gradients) - expected
        found[kind] = np.linalg.norm(difference) / np.linalg.norm(expected)
    print(f"\n{name:12}", *(f"{kind} {x:.0e};" for kind, x in found.items()))
    assert max(found.values()) < tolerance

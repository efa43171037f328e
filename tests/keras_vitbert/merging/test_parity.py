"""Merges against TorchJD, the authors' methods collected for PyTorch; `-s` shows the differences.

LibMTL is not here: what it has beside TorchJD is GradNorm only, with weights that are a softmax of
parameters, trained by the network's optimiser, inside of its trainer.
"""

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.merging import (
    DWA,
    FAMO,
    IMTLG,
    MGDA,
    Aligned,
    CAGrad,
    ConFIG,
    DualProj,
    FairGrad,
    GradDrop,
    GradVac,
    Nash,
    PCGrad,
    RandomWeights,
    SDMGrad,
    Uncertainty,
    Unit,
    UPGrad,
    entries,
    weighting,
)
from tests.keras_vitbert.merging.pairs import SIZE, built, compiled, draw, flat, pair, split
from tests.keras_vitbert.merging.test_loss_weights import Run, draw_losses

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch")
aggregation = pytest.importorskip("torchjd.aggregation")
linalg = pytest.importorskip("torchjd.linalg")
scalarization = pytest.importorskip("torchjd.scalarization")

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


def test_gradvac_over_several_steps():
    theirs = aggregation.GradVac(beta=0.2, eps=0.0)
    merge, found = built(GradVac(beta=0.2)), []
    for step in range(12):
        gradients = pair(step, [1.9, 1.6, 0.5, 1.2][step % 4], 1, 1 + step)
        expected = theirs(torch.tensor(gradients.astype(np.float64))).numpy()
        merged = merge.merge(*map(split, gradients))
        merge.keep(merged.state)
        value = flat(merged.gradients)
        found.append(difference(value, expected, np.linalg.norm(expected)))
    print(f"\nGradVac      gradient  12 steps, at most {max(found):.0e}")
    assert max(found) < 1e-5


@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_graddrop_of_the_same_numbers(monkeypatch, leak):
    gradients = draw(5)
    uniform = np.random.default_rng(0).uniform(size=SIZE).astype(np.float32)
    numbers = iter(split(uniform))
    monkeypatch.setattr(entries, "uniform", lambda *_: next(numbers))
    monkeypatch.setattr(torch, "rand", lambda *args, **kwargs: torch.tensor(uniform).double())
    theirs = aggregation.GradDrop(leak=torch.tensor([leak, leak], dtype=torch.float64))
    expected = theirs(torch.tensor(gradients.astype(np.float64))).numpy()
    value = flat(built(Unit(), GradDrop(leak)).merge(*map(split, gradients)).gradients)
    found = difference(value, expected, np.linalg.norm(expected))
    print(f"\nGradDrop     gradient  leak {leak} {found:.0e}")
    assert found < 1e-6


def test_random_weights_of_the_same_numbers(monkeypatch):
    gradients, normal = draw(6), np.array([0.3, -1.2], np.float32)
    monkeypatch.setattr(weighting, "normal_pair", lambda *_: tf.constant(normal))
    monkeypatch.setattr(torch, "randn", lambda *args, **kwargs: torch.tensor(normal).double())
    expected = aggregation.Random()(torch.tensor(gradients.astype(np.float64))).numpy()
    value = flat(built(RandomWeights()).merge(*map(split, gradients)).gradients)
    found = difference(value, expected, np.linalg.norm(expected))
    print(f"\nRandom       gradient  {found:.0e}")
    assert found < 1e-6


# --- weights of losses ---------------------------------------------------------------------------


def weights_of(scalarizer, losses):
    """What the gradients of the losses are multiplied by."""
    values = torch.tensor(np.asarray(losses, np.float64), requires_grad=True)
    (weights,) = torch.autograd.grad(scalarizer(values), values)
    return weights.numpy()


def shows(name, found, expected):
    found, expected = np.array(found), np.array(expected)
    wrong = np.abs(found / expected - 1).max()
    print(f"\n{name:12} weights   {len(found)} steps, at most {wrong:.0e}")
    assert wrong < 1e-4


def test_dwa_with_epochs_of_some_steps():
    theirs = scalarization.DWA(temperature=2.0)
    run, found, expected = Run(DWA(temperature=2.0, window=4)), [], []
    for step, losses in enumerate(draw_losses(0, 16)):
        found.append(run.step(losses))
        expected.append(weights_of(theirs, losses))
        if step % 4 == 3:
            theirs.step()
    shows("DWA", found, expected)


def test_uncertainty_where_its_losses_are_halved():
    """TorchJD weighs by `exp(-s) / 2` whatever the loss is; here that is of `2 L`, for classes."""
    theirs = scalarization.UW(2).double()
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1)
    run, found, expected = Run(Uncertainty(rate=0.1)), [], []
    for losses in draw_losses(1, 10):
        found.append(run.step(losses))
        expected.append(2 * weights_of(theirs, 2 * losses))
        optimizer.zero_grad()
        theirs(torch.tensor(2 * losses.astype(np.float64))).backward()
        optimizer.step()
    shows("UW", found, expected)


def test_famo_with_gradient_descent():
    """TorchJD and the authors' code move the logits by Adam, the paper and we do not."""
    theirs = scalarization.FAMO(2, lr=0.5, weight_decay=0.01).double()
    theirs._optimizer = torch.optim.SGD([theirs._w], lr=0.5, weight_decay=0.01)
    run, found, expected = Run(FAMO(rate=0.5, decay=0.01)), [], []
    for losses in draw_losses(2, 10):
        after = losses * [0.9, 1.02]
        found.append(run.step(losses, after=after))
        expected.append(weights_of(theirs, losses))
        theirs.update(torch.tensor(after.astype(np.float64)))
    shows("FAMO", found, expected)

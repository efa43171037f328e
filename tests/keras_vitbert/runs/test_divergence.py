"""What follows a step that was not applied, against softmax regression in NumPy."""

import csv
import pickle

import numpy as np
import pytest

from tests.forked import Forked
from tests.keras_vitbert.runs import divergence_script
from tests.keras_vitbert.runs.divergence_script import (
    BATCH,
    CLASSES,
    INPUTS,
    MOMENTUM,
    RATE,
    batches,
    train,
)

BAD = {"stop": (45,), "skip": (7, 45), "restore": (45,)}
CASES = [("stop", 1), ("skip", 1), ("skip", 20), ("restore", 20)]
GOOD = 20  # the checkpoint that is shown to be good by the one at 40


class Regression:
    """Softmax regression by gradient descent with momentum and a clipped norm, in float64."""

    def __init__(self):
        self.weights = [np.zeros((INPUTS, CLASSES)), np.zeros(CLASSES)]
        self.momenta = [np.zeros_like(w) for w in self.weights]

    def step(self, images, labels):
        logits = images @ self.weights[0] + self.weights[1]
        odds = np.exp(logits - logits.max(1, keepdims=True))
        errors = (odds / odds.sum(1, keepdims=True) - np.eye(CLASSES)[labels]) / BATCH
        gradients = [images.T @ errors, errors.sum(0)]
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        gradients = [g * min(1, 1 / norm) for g in gradients]
        pairs = zip(self.momenta, gradients, strict=True)
        self.momenta = [MOMENTUM * m - RATE * g for m, g in pairs]
        self.weights = [w + m for w, m in zip(self.weights, self.momenta, strict=True)]


def expected(policy, bad, executed):
    """The weights at the end."""
    model = Regression()
    for step, (images, labels) in enumerate(zip(*batches(), strict=True)):
        if step not in bad:
            model.step(images.astype(float), labels)
        end = step + 1
        if end == GOOD:
            saved = list(model.weights), list(model.momenta)
        if end % executed == 0 and any(end - executed <= s < end for s in bad):
            if policy == "stop":
                break
            if policy == "restore":
                model.weights, model.momenta = (list(part) for part in saved)
    return model.weights


def lines_of(folder):
    with open(folder / "divergences.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("policy, executed", CASES)
def test_each_policy_on_data_that_are_not_finite(tmp_path, policy, executed):
    result = train(tmp_path, policy, BAD[policy], executed)
    check(policy, executed, result, tmp_path)


@pytest.mark.slow
def test_going_back_on_four_replicas(tmp_path):
    found, folder = tmp_path / "results", tmp_path / "run"
    case = folder, "restore", BAD["restore"], 20
    status, errors = Forked(divergence_script.main, found, 4, *case).end()
    assert status == 0, errors[-2000:]
    check("restore", 20, pickle.loads(found.read_bytes()), folder)


def check(policy, executed, result, folder):
    """Checks what a training has left that met the steps `BAD`."""
    bad = BAD[policy]
    for ours, theirs in zip(result["weights"], expected(policy, bad, executed), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert result["counts"] == {"not_applied": len(bad), "restores": int(policy == "restore")}
    rows = lines_of(folder)
    assert [int(row["step"]) for row in rows] == [step + 1 for step in bad]
    for row in rows:
        assert row["reason"] == "its loss is nan"
        assert [name.split("/")[-1] for name in row["variables"].split()] == ["kernel", "bias"]
        assert row["images"] == f"file {int(row['step']) - 1}; other:1"
    if policy == "stop":
        assert result["error"].startswith("step 46 was not applied (its loss is nan)")
        assert (folder / "checkpoints" / "LAST").read_text() == "step-00000040\n"
    else:
        assert result["error"] is None
        assert all(np.isfinite(float(value)) for value in result["metrics"].values() if value)


def test_more_than_the_most_are_not_skipped(tmp_path):
    assert train(tmp_path / "two", "skip", BAD["skip"], limit=2)["error"] is None
    result = train(tmp_path / "one", "skip", BAD["skip"], limit=1)
    assert "max_divergences=1" in result["error"] and len(lines_of(tmp_path / "one")) == 2


def test_there_must_be_something_to_go_back_to(tmp_path):
    result = train(tmp_path, "restore", bad=(25,))
    assert "no checkpoint has been shown to be good" in result["error"]


def test_a_resumed_run_ends_the_same(tmp_path, policy="restore"):
    """The number of bad steps so far, and the limit for the loss, are in its checkpoint."""
    whole = train(tmp_path / "whole", policy, bad=(45, 50))
    train(tmp_path / "parts", policy, bad=(45, 50), steps=40)
    parts = train(tmp_path / "parts", policy, bad=(45, 50))
    assert parts["counts"] == whole["counts"] and whole["counts"]["not_applied"] == 2
    for ours, theirs in zip(parts["weights"], whole["weights"], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert lines_of(tmp_path / "parts") == lines_of(tmp_path / "whole")

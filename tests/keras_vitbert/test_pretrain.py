"""Whole runs of the command, on TFRecords that hold a handful of examples."""

import collections
import json
import math
import os

import pytest

from keras_vitbert import load
from keras_vitbert.configs.pretraining import VARIANTS
from keras_vitbert.experiments.pretraining.report import describe
from keras_vitbert.runs import checkpoints
from tests.keras_vitbert.tiny_runs import (
    CLASS_NAMES,
    VOCABULARY,
    checkpoint_values,
    config_of,
    metrics_rows,
    summary_of,
)
from tests.keras_vitbert.whole_runs import (
    EACH_VARIANT,
    MAPPED,
    MASKED,
    STEPS,
    count_baselines,
    validate,
)


@pytest.mark.parametrize("variant", EACH_VARIANT)
def test_a_run_leaves_its_folder(finished, sources, variant):
    folder = finished(variant)
    uses = VARIANTS[variant]
    names = {"checkpoints", "train", "validation", "metrics.csv", "config.json", "summary.json"}
    names |= {"vocabulary.txt"} if uses.text else set()
    names |= {"classes.txt"} if uses.images else set()
    names |= {"inspection"} if variant in (*MASKED, MAPPED) else set()
    assert set(os.listdir(folder)) == names
    names = ["GOOD", "LAST", "step-00000008", "step-00000010"]
    assert sorted(os.listdir(folder / "checkpoints")) == names
    assert (folder / "checkpoints" / "GOOD").read_text() == "step-00000010\n"
    if uses.text:
        assert (folder / "vocabulary.txt").read_text().splitlines() == VOCABULARY
    if uses.images:
        assert (folder / "classes.txt").read_text().splitlines() == CLASS_NAMES

    record = json.loads((folder / "config.json").read_text())
    assert record["experiment"]["variant"] == variant
    assert ("vocabulary" in record["inputs"]) == uses.text
    found = record["experiment"]
    assert found["model"] == json.loads(json.dumps(config_of(sources).model.to_dict()))
    assert found["distillation"]["ratio"] == float(uses.distillation)
    assert found["merge"]["name"] == ("mask" if uses.masks else "sum")


@pytest.mark.parametrize("variant", EACH_VARIANT)
def test_the_summary_says_what_came_out(finished, sources, variant):
    folder = finished(variant)
    uses, summary = VARIANTS[variant], summary_of(folder)
    assert set(summary) >= {
        *("variant", "steps", "seconds", "images_per_second", "tokens_per_second", "parameters"),
        *("resumed_from_step", "validation", "baselines", "mask"),
    }
    assert (summary["variant"], summary["steps"]) == (variant, STEPS)
    assert summary["resumed_from_step"] == 0
    assert summary["seconds"] > 0
    times = summary["time"]
    assert min(times["steps"], times["tracing"], times["validation"], times["saving"]) > 0
    assert sum(times.values()) <= summary["seconds"] + 0.5
    assert (summary["images_per_second"] > 0) == uses.images
    assert (summary["tokens_per_second"] > 0) == uses.text

    network = load(str(folder)).network
    assert summary["parameters"] == sum(math.prod(v.shape) for v in network.trainable_variables)
    expected = validate(network, sources)
    found = {name: v for name, v in summary["validation"].items() if name != "loss"}
    assert found == pytest.approx(expected, rel=1e-5)

    expected = count_baselines(sources)
    absent = () if uses.images else ("image",)
    absent += () if uses.text else ("mlm", "nsp")
    expected = {name: v for name, v in expected.items() if not name.startswith(absent or " ")}
    assert summary["baselines"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("variant", EACH_VARIANT)
def test_masks_end_at_their_ratio(finished, variant):
    folder = finished(variant)
    summary, values = summary_of(folder)["mask"], checkpoint_values(folder)
    masks = {name: value for name, value in values.items() if value.dtype == bool}
    assert bool(summary) == bool(masks) == (variant in MASKED)
    if masks:
        check_masks(summary, masks)


def check_masks(summary, masks):
    """The summary against the masks in the checkpoint, by their names."""
    cleared, sizes = collections.Counter(), collections.Counter()
    for name, mask in masks.items():
        block = "block_0" if "mask_block_0" in name else "final_norm"
        assert block in name
        cleared[block] += int((~mask).sum())
        sizes[block] += mask.size
    size = sum(sizes.values())
    # One block of D = 8, 12 units in its MLP: four projections, two dense layers, three norms.
    assert size == 4 * (8 * 8 + 8) + (8 * 12 + 12) + (12 * 8 + 8) + 3 * 2 * 8
    assert abs(sum(cleared.values()) - size / 2) <= 1
    assert (summary["cleared"], summary["size"]) == (sum(cleared.values()), size)
    assert summary["sparsity"] == pytest.approx(sum(cleared.values()) / size)
    expected = {block: cleared[block] / sizes[block] for block in sizes}
    assert summary["sparsity_per_block"] == pytest.approx(expected)


def test_every_validation_is_of_its_own_step(finished, sources):
    """Not only the last one: that of step 8 is that of the checkpoint of step 8."""
    folder = finished("joint")
    network = load(str(folder)).network
    checkpoints.restore_network(str(folder / "checkpoints" / "step-00000008"), network)
    row = metrics_rows(folder)[1]
    found = {name.removeprefix("val_"): float(v) for name, v in row.items() if "val_" in name}
    expected = validate(network, sources)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert expected != pytest.approx(summary_of(folder)["validation"], rel=1e-3)


def test_the_report_is_the_summary(finished):
    summary = summary_of(finished("joint"))
    summary["mask"] = {"sparsity": 0.5, "sparsity_per_block": {"block_0": 0.625}}
    summary["bad_records"] = [{"records": 2}, {"records": 3}]
    text = describe(summary, "some/folder")
    for name in ("image_accuracy", "mlm_loss", "mlm_accuracy", "nsp_accuracy"):
        assert f"{summary['validation'][name]:.4f}" in text
    for value in summary["baselines"].values():
        assert f"baseline {value:.4f}" in text
    assert "block_0 0.625" in text and "5 damaged records were skipped" in text
    assert "some/folder/summary.json" in text

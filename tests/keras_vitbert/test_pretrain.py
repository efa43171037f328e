"""Whole runs of the command, on TFRecords that hold a handful of examples."""

import collections
import json
import math
import os
import re

import numpy as np
import pytest
from scipy import stats

from keras_vitbert import load
from keras_vitbert.configs.pretraining import VARIANTS
from keras_vitbert.experiments.pretraining.report import printed
from keras_vitbert.runs import checkpoints
from tests.keras_vitbert.tiny_runs import (
    CLASS_NAMES,
    VOCABULARY,
    assert_same_values,
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
    without_clock,
)
from tests.marks import slow


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
    assert {"image_accuracy"} <= set(expected) or not uses.images
    assert {"mlm_accuracy", "mlm_loss", "nsp_accuracy"} <= set(expected) or not uses.text
    found = {name: v for name, v in summary["validation"].items() if name != "loss"}
    assert found == pytest.approx(expected, rel=1e-5)

    expected = count_baselines(sources)
    assert all(0 < value < 1 for name, value in expected.items() if name.endswith("accuracy"))
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


@pytest.mark.slow
def test_the_summary_says_how_far_units_are_shared(finished):
    """By the values behind the last picture; of runs that draw none it says nothing."""
    folder = finished("joint")
    values = np.load(folder / "inspection" / f"activations-{STEPS:08d}.npz")
    found = summary_of(folder)["co_activation"]
    assert set(found) == {"overlap", "correlation"}
    for image, text, correlation in zip(
        values["image"], values["text"], found["correlation"], strict=True
    ):
        assert correlation == pytest.approx(stats.spearmanr(image, text).statistic, abs=1e-4)
    assert summary_of(finished("vitbert_no_kd"))["co_activation"] == {}


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


@pytest.mark.slow
def test_random_masks_and_bfloat16(finished, sources):
    folder = finished(
        "vitbert_no_kd", "--config.merge.name=random_mask", "--config.dtype=mixed_bfloat16"
    )
    values, summary = checkpoint_values(folder), summary_of(folder)
    [updates] = [value for name, value in values.items() if "updates" in name]
    assert updates == 3
    masks = {name: value for name, value in values.items() if value.dtype == bool}
    check_masks(summary["mask"], masks)
    for name, value in checkpoint_values(finished("vitbert_no_kd")).items():
        if name in masks and value.size > 30:
            assert not np.array_equal(value, masks[name])

    # Weights, optimizer and losses are float32; what is computed between them is not.
    assert {v.dtype for v in values.values() if v.dtype.kind not in "iub"} == {np.dtype("float32")}
    expected = validate(load(str(folder), "float32").network, sources)
    found = {name: value for name, value in summary["validation"].items() if name in expected}
    for name in ("image_loss", "mlm_loss", "nsp_loss"):
        assert found[name] == pytest.approx(expected[name], rel=0.03)
    for name in ("image_loss", "mlm_loss"):  # that of two nearly equal answers hardly depends on it
        assert found[name] != pytest.approx(expected[name], rel=1e-6)
    assert found == pytest.approx(
        validate(load(str(folder), "mixed_bfloat16").network, sources), rel=1e-2
    )


@pytest.mark.parametrize("variant", ["vit", "joint"])
def test_every_validation_is_of_its_own_step(finished, sources, variant):
    """Not only the last one: that of step 8 is that of the checkpoint of step 8."""
    folder = finished(variant)
    network = load(str(folder)).network
    checkpoints.restore_network(str(folder / "checkpoints" / "step-00000008"), network)
    row = metrics_rows(folder)[1]
    found = {name.removeprefix("val_"): float(v) for name, v in row.items() if "val_" in name}
    expected = validate(network, sources)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert expected != pytest.approx(summary_of(folder)["validation"], rel=1e-3)


@pytest.mark.slow
def test_validation_at_longer_intervals(finished):
    """Validation does not touch training; it comes at its interval and at the end."""
    often = finished("vit")
    folder = finished("vit", "--config.validation_interval=8")
    assert_same_values(
        *(
            {n: v for n, v in checkpoint_values(f).items() if not n.startswith("metrics")}
            for f in (often, folder)
        )
    )
    rows, wanted = metrics_rows(folder), metrics_rows(often)
    assert [bool(row["val_image_loss"]) for row in rows] == [False, True, True]
    assert rows[1:] == wanted[1:]
    assert without_clock(summary_of(folder)) == without_clock(summary_of(often))


@pytest.mark.parametrize("variant", ["joint", slow("vitbert")])
def test_the_report_is_the_summary(finished, variant):
    summary = summary_of(finished(variant))
    text = printed(summary, "some/folder")
    for name in ("image_accuracy", "mlm_loss", "mlm_accuracy", "nsp_accuracy"):
        assert f"{summary['validation'][name]:.4f}" in text
    for value in summary["baselines"].values():
        assert f"baseline {value:.4f}" in text
    assert ("mask sparsity" in text) == (variant in MASKED)
    for block, sparsity in summary["mask"].get("sparsity_per_block", {}).items():
        assert f"{block} {sparsity:.3f}" in text
    assert "some/folder/summary.json" in text
    alone = printed(summary_of(finished("bert")), "x")
    assert "masked-LM" in alone and "image" not in alone and "mask sparsity" not in alone


def test_the_report_tells_of_masks_and_of_lost_records(finished):
    summary = summary_of(finished("vit"))
    summary["mask"] = {"sparsity": 0.5, "sparsity_per_block": {"block_0": 0.625, "block_1": 0.25}}
    summary["bad_records"] = [{"records": 2}, {"records": 3}]
    text = printed(summary, "x")
    assert re.search(r"mask sparsity +0\.5000  \(block_0 0\.625, block_1 0\.250\)", text)
    assert "5 damaged records were skipped" in text
    assert "left out" not in printed({**summary, "bad_records": []}, "x")

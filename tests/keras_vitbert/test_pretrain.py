"""Whole runs of the command, on TFRecords that hold a handful of examples."""

import collections
import json
import math
import os

import pytest

from keras_vitbert import load
from keras_vitbert.configs.pretraining import VARIANTS
from keras_vitbert.runs import checkpoints
from tests.keras_vitbert.tiny_runs import (
    CLASS_NAMES,
    VOCABULARY,
    checkpoint_values,
    config_of,
    content_of,
    metrics_rows,
    summary_of,
)
from tests.keras_vitbert.whole_runs import EACH_KIND, STEPS, validate


@pytest.mark.parametrize("variant", EACH_KIND)
def test_a_run_leaves_its_folder(finished, sources, variant):
    folder = finished(variant)
    uses = VARIANTS[variant]
    names = {"checkpoints", "train", "validation", "metrics.csv", "config.json", "summary.json"}
    names |= {"vocabulary.txt"} if uses.text else set()
    names |= {"classes.txt"} if uses.images else set()
    names |= {"inspection"} if uses.images and uses.text else set()
    assert set(os.listdir(folder)) == names
    names = ["GOOD", "LAST", "step-00000008", "step-00000010"]
    assert sorted(os.listdir(folder / "checkpoints")) == names
    assert (folder / "checkpoints" / "GOOD").read_text() == "step-00000010\n"
    if uses.text:
        assert (folder / "vocabulary.txt").read_text().splitlines() == VOCABULARY
    if uses.images:
        assert (folder / "classes.txt").read_text().splitlines() == CLASS_NAMES
    found = content_of(folder / "config.json")["experiment"]
    assert found["model"] == json.loads(json.dumps(config_of(sources).model.to_dict()))
    assert found["distillation"]["ratio"] == float(uses.distillation)
    assert found["merge"]["name"] == ("mask" if uses.masks else "sum")


@pytest.mark.parametrize("variant", EACH_KIND)
def test_the_summary_says_what_came_out(finished, sources, variant):
    folder = finished(variant)
    uses, summary = VARIANTS[variant], summary_of(folder)
    assert (summary["variant"], summary["steps"]) == (variant, STEPS)
    assert summary["resumed_from_step"] == 0
    times = summary["time"]
    assert min(times["steps"], times["tracing"], times["validation"], times["saving"]) > 0
    assert sum(times.values()) <= summary["seconds"] + 0.5
    assert (summary["images_per_second"] > 0) == uses.images
    assert (summary["tokens_per_second"] > 0) == uses.text

    assert ("mlm_unigram_loss" in summary["baselines"]) == uses.text

    network = load(str(folder)).network
    assert summary["parameters"] == sum(math.prod(v.shape) for v in network.trainable_variables)
    found = {name: v for name, v in summary["validation"].items() if name != "loss"}
    assert found == pytest.approx(validate(network, sources), rel=1e-5)


@pytest.mark.slow
def test_masks_end_at_their_ratio(finished):
    """The summary against the masks in the checkpoint, by their names."""
    folder = finished("vitbert")
    summary, values = summary_of(folder)["mask"], checkpoint_values(folder)
    cleared, sizes = collections.Counter(), collections.Counter()
    for name, mask in values.items():
        if mask.dtype == bool:
            block = "block_0" if "mask_block_0" in name else "final_norm"
            assert block in name
            cleared[block] += int((~mask).sum())
            sizes[block] += mask.size
    size = sum(sizes.values())
    # One block of D = 8, 12 units in its MLP: four projections, two dense layers, three norms.
    assert size == 4 * (8 * 8 + 8) + (8 * 12 + 12) + (12 * 8 + 8) + 3 * 2 * 8
    assert abs(sum(cleared.values()) - size / 2) <= 1
    assert (summary["cleared"], summary["size"]) == (sum(cleared.values()), size)
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

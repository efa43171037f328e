"""What whole runs of `pretrain` show in metrics.csv and TensorBoard."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert import load
from keras_vitbert.configs.pretraining import VARIANTS
from keras_vitbert.experiments.pretraining.data import open_data
from keras_vitbert.inspection.activations import MeanActivations
from keras_vitbert.inspection.values import read_values
from tests.keras_vitbert.tiny_runs import (
    assert_same_values,
    checkpoint_values,
    config_of,
    metrics_rows,
    summary_of,
)
from tests.keras_vitbert.whole_runs import (
    EACH_KIND,
    EPOCH_ENDS,
    MAPS,
    STEPS,
    tensorboard_scalars,
)


@pytest.mark.parametrize("variant", EACH_KIND)
def test_logs_hold_every_number_at_the_end_of_each_epoch(finished, variant):
    folder, uses = finished(variant), VARIANTS[variant]
    scalars, rows = tensorboard_scalars(folder), metrics_rows(folder)
    tasks = (["image"] if uses.images else []) + (["mlm", "nsp"] if uses.text else [])
    for writer in ("train", "validation"):
        losses = {tag for name, tag in scalars if name == writer and tag.startswith("loss/")}
        assert losses == {f"loss/{task}_loss" for task in tasks} | {"loss/loss"}
    assert [int(row["step"]) for row in rows] == EPOCH_ENDS
    for (writer, tag), values in scalars.items():
        if "co_activation" in tag:
            assert sorted(values) == MAPS
            continue
        assert sorted(values) == EPOCH_ENDS
        column = tag if tag.startswith("merge/") else tag.split("/")[1]
        if "per_second" in tag or column in ("gradient_norm_ratio", "gradient_opposite_sign"):
            continue
        column = f"val_{column}" if writer == "validation" else column
        assert [float(row[column]) for row in rows] == pytest.approx(
            [values[step] for step in EPOCH_ENDS], rel=1e-6
        )

    rates = scalars["train", "learning_rate/learning_rate"]
    for step, rate in rates.items():  # warm-up to step 2, then a line down to 0 at step 10
        assert rate == pytest.approx(1e-2 * (STEPS - step) / (STEPS - 2), abs=1e-9)
    if uses.images and uses.text:
        assert all(-1 < c < 1 and c for c in scalars["train", "gradient/gradient_cosine"].values())
        assert len(set(scalars["train", "gradient/text_gradient_norm"].values())) == 3
    if uses.masks:
        size = summary_of(folder)["mask"]["size"]
        found = scalars["train", "mask_sparsity/mask_sparsity"]
        for step, sparsity in {4: 0.2, 8: 0.5, 10: 0.5}.items():
            assert found[step] == pytest.approx(sparsity, abs=1 / size)


def test_the_last_activation_maps_are_those_of_the_finished_model(finished, sources):
    folder, config = finished("joint"), config_of(sources, variant="joint")
    backbone, data = load(str(folder)).network.backbone, open_data(config)
    means = MeanActivations(backbone, tf.distribute.get_strategy(), data.vocabulary)
    stored = read_values(str(folder), "activations")
    assert list(stored) == MAPS
    for modality, expected in means(data.stream(config).validation()).items():
        np.testing.assert_allclose(stored[STEPS][modality], expected, rtol=1e-5)


@pytest.mark.slow
def test_looking_changes_nothing(finished):
    """A run that is looked at is, to the bit, the run that nobody looks at."""
    off = "--config.inspection.gradient_interval=0", "--config.inspection.mask_pictures=false"
    unseen, seen = finished("vitbert_no_kd", *off), finished("vitbert_no_kd")
    assert_same_values(checkpoint_values(unseen), checkpoint_values(seen))
    for ours, theirs in zip(metrics_rows(unseen), metrics_rows(seen), strict=True):
        looked_at = set(theirs) - set(ours)
        assert looked_at == {"text_gradient_norm", "image_gradient_norm", "gradient_cosine"}
        assert ours == {name: value for name, value in theirs.items() if name in ours}
    assert not list((unseen / "inspection").glob("masks*"))

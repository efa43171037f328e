"""What whole runs of `pretrain` show in metrics.csv and TensorBoard."""

import pytest

from keras_vitbert.configs.pretraining import VARIANTS
from tests.keras_vitbert.tiny_runs import (
    assert_same_values,
    checkpoint_values,
    metrics_rows,
    summary_of,
)
from tests.keras_vitbert.whole_runs import (
    EACH_VARIANT,
    EPOCH_ENDS,
    MAPPED,
    MAPS,
    MASKED,
    STEPS,
    tensorboard_images,
    tensorboard_scalars,
)


def expected_tags(variant):
    uses = VARIANTS[variant]
    tasks = (["image"] if uses.images else []) + (["mlm", "nsp"] if uses.text else [])
    losses = {f"loss/{task}_loss" for task in tasks} | {"loss/loss"}
    losses |= {f"accuracy/{task}_accuracy" for task in tasks}
    train = {*losses, "learning_rate/learning_rate", "gradient/gradient_norm"}
    train |= {"throughput/images_per_second"} if uses.images else set()
    train |= {"throughput/tokens_per_second"} if uses.text else set()
    if uses.images and uses.text:
        train |= {"gradient/text_gradient_norm", "gradient/image_gradient_norm"}
        for name in ("cosine", "norm_ratio", "opposite_sign"):
            train.add(f"gradient/gradient_{name}")
    if variant in MASKED:
        train.add("mask_sparsity/mask_sparsity")
    if variant == MAPPED:
        train |= {"co_activation/overlap", "co_activation/correlation"}
    return {*(("train", tag) for tag in train), *(("validation", tag) for tag in losses)}


@pytest.mark.parametrize("variant", EACH_VARIANT)
def test_logs_hold_every_number_at_the_end_of_each_epoch(finished, variant):
    folder = finished(variant)
    scalars = tensorboard_scalars(folder)
    assert set(scalars) == expected_tags(variant)
    rows = metrics_rows(folder)
    assert [int(row["step"]) for row in rows] == EPOCH_ENDS
    for (writer, tag), values in scalars.items():
        if "co_activation" in tag:
            assert sorted(values) == MAPS
            continue
        assert sorted(values) == EPOCH_ENDS
        column = tag.split("/")[1]
        if "per_second" in tag or column in ("gradient_norm_ratio", "gradient_opposite_sign"):
            continue
        column = f"val_{column}" if writer == "validation" else column
        assert [float(row[column]) for row in rows] == pytest.approx(
            [values[step] for step in EPOCH_ENDS], rel=1e-6
        )

    rates = scalars["train", "learning_rate/learning_rate"]
    for step, rate in rates.items():  # warm-up to step 2, then a line down to 0 at step 10
        assert rate == pytest.approx(1e-2 * (STEPS - step) / (STEPS - 2), abs=1e-9)
    if VARIANTS[variant].images and VARIANTS[variant].text:
        assert all(-1 < c < 1 and c for c in scalars["train", "gradient/gradient_cosine"].values())
        assert len(set(scalars["train", "gradient/text_gradient_norm"].values())) == 3
        assert set(tensorboard_images(folder)["gradient_conflict/blocks"]) == set(EPOCH_ENDS)
    if variant in MASKED:
        assert {"mask_sparsity/block_0", "mask_sparsity/final_norm"} <= set(rows[0])
        size = summary_of(folder)["mask"]["size"]
        found = scalars["train", "mask_sparsity/mask_sparsity"]
        for step, sparsity in {4: 0.2, 8: 0.5, 10: 0.5}.items():
            assert found[step] == pytest.approx(sparsity, abs=1 / size)


@pytest.mark.slow
def test_looking_changes_nothing(finished):
    """A run that is looked at in every step is, to the bit, the run that nobody looks at."""
    off = "--config.inspection.gradient_interval=0", "--config.inspection.mask_pictures=false"
    on = ("--config.inspection.gradient_interval=1",)
    unseen, seen = finished("vitbert_no_kd", *off), finished("vitbert_no_kd", *on)
    assert_same_values(checkpoint_values(unseen), checkpoint_values(seen))
    for ours, theirs in zip(metrics_rows(unseen), metrics_rows(seen), strict=True):
        looked_at = set(theirs) - set(ours)
        assert looked_at == {"text_gradient_norm", "image_gradient_norm", "gradient_cosine"}
        assert ours == {name: value for name, value in theirs.items() if name in ours}
    tags = [{tag for _, tag in tensorboard_scalars(run)} for run in (unseen, seen)]
    assert not any("cosine" in tag for tag in tags[0])
    assert not tensorboard_images(unseen)
    assert not list((unseen / "inspection").glob("masks*"))
    conflict = tensorboard_scalars(seen)["train", "gradient/gradient_opposite_sign"]
    assert sorted(conflict) == list(range(1, STEPS + 1))

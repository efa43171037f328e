"""The variants of the paper's Table 1."""

import pytest

from keras_vitbert.configs import sample, variants
from tests.keras_vitbert.configs.command_lines import parsed_config


def test_table_1():
    """Rows of the paper's Table 1: trained on, distillation ratio, merge."""
    config = sample.get_config()
    rows = {}
    for name, variant in variants.VARIANTS.items():
        applied = variants.apply_variant(config, variants.find_variant(name))
        rows[name] = (variant.images, variant.text, applied.distillation.ratio, applied.merge.name)
        applied.distillation.ratio, applied.merge.name = config.distillation.ratio, "mask"
        assert applied == config  # nothing else differs, and the config itself is as it was
    assert rows == {
        "bert": (False, True, 0.0, "sum"),
        "vit": (True, False, 0.0, "sum"),
        "joint": (True, True, 0.0, "sum"),
        "vitbert": (True, True, 1.0, "mask"),
        "vitbert_no_kd": (True, True, 0.0, "mask"),
        "vitbert_no_gm": (True, True, 1.0, "sum"),
    }


def test_variants_keep_what_a_user_asks_for():
    config = parsed_config("--config.distillation.ratio=0.3", "--config.merge.name=random_mask")
    applied = variants.apply_variant(config, variants.find_variant("vitbert"))
    assert (applied.distillation.ratio, applied.merge.name) == (0.3, "random_mask")
    applied = variants.apply_variant(config, variants.find_variant("vitbert_no_gm"))
    assert (applied.distillation.ratio, applied.merge.name) == (0.3, "sum")
    config.merge.name = "sum"
    assert variants.apply_variant(config, variants.find_variant("vitbert")).merge.name == "sum"


@pytest.mark.parametrize(
    ("ratio", "per_update", "updates"), [(0.5, 0.1, 5), (0.3, 0.1, 3), (0.7, 0.1, 7), (0.5, 0.2, 3)]
)
def test_masks_that_would_not_be_finished_are_refused(ratio, per_update, updates):
    """The last update comes in the step after `updates` intervals, which must be one of the run."""
    flags = [f"--config.merge.mask_ratio={ratio}", "--config.steps=61"]
    flags += [f"--config.merge.mask_ratio_per_update={per_update}"]
    largest = 60 // updates
    masked = variants.find_variant("vitbert_no_kd")
    config = parsed_config(*flags, f"--config.merge.mask_update_interval={largest}")
    variants.check_masks(config, masked)
    config.merge.mask_update_interval += 1
    last = updates * (largest + 1)
    message = (
        f"mask_update_interval={largest + 1}: the masks reach mask_ratio={ratio} by {updates} "
        f"updates after {last} steps, the run has 61; set it to at most {largest}$"
    )
    with pytest.raises(ValueError, match=message):
        variants.check_masks(config, masked)
    variants.check_masks(config, variants.find_variant("joint"))
    config.steps = 3
    with pytest.raises(ValueError, match=f"the run has 3; train more than {updates} steps"):
        variants.check_masks(config, masked)
    config.merge.mask_ratio = 0.0
    variants.check_masks(config, masked)


def test_unknown_variant_is_told():
    with pytest.raises(
        ValueError, match=r"--variant=vitbert_kd: .* bert, vit, .*did you mean vitb"
    ):
        variants.find_variant("vitbert_kd")

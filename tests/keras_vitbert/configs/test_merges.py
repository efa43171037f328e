"""Names and options of merges: what a config may say, and what it refuses in one line."""

import re

import pytest

from keras_vitbert.configs import merges, paper
from keras_vitbert.configs.merges import Merge
from keras_vitbert.merging import GradientMask, get_merge
from tests.keras_vitbert.configs.command_lines import parsed_config


def problems(given, variant="vitbert"):
    """What the command line says to values of the `merge` section."""
    argv = [f"--config.merge.{key}={value}" for key, value in given.items()]
    try:
        parsed_config("--config=paper", f"--variant={variant}", *argv)
    except ValueError as error:
        return str(error)
    return ""


def test_every_name_is_a_merge():
    names = [*merges.ENTRIES, *merges.WEIGHTINGS]
    names += [f"{e}+{w}" for e in merges.ENTRIES for w in merges.WEIGHTINGS if w != "alternate"]
    for name in names:
        merge = get_merge(Merge(name=name))
        assert isinstance(merge.entries, GradientMask) == merges.has_masks(name)
        assert (merge.entries is None) == (merges.split_name(name)[0] is None)
        assert merge.weighting.weighs_losses == (merges.split_name(name)[1] in merges.OF_LOSSES)


@pytest.mark.parametrize(
    ("given", "culprit"),
    [
        ({"name": "pcgrd"}, r"name=.*\bpcgrad"),
        ({"name": "pcgrad+mask"}, "name="),
        ({"name": "mask+alternate"}, "name="),
        ({"name": "nash", "blocks": "3:3"}, "blocks="),
        ({"name": "nash", "blocks": "2:13"}, "blocks=.*12"),
        ({"name": "famo", "blocks": "2:3"}, "blocks="),
        ({"name": "mask", "per_block": True}, "per_block="),
        ({"name": "nash", "cagrad.radius": 0.3}, "cagrad.radius: "),
        ({"name": "random_mask", "mask_criterion": "image"}, "mask_criterion: "),
        ({"image_loss_ratio": 0.5}, "image_loss_ratio: "),
        ({"name": "pcgrad", "mask_ratio": 0.3}, "mask_ratio: "),
    ],
)
def test_what_cannot_work_is_refused(given, culprit):
    assert re.match(f"merge.{culprit}", problems(given))


@pytest.mark.parametrize(
    ("given", "variant"),
    [
        ({"name": "mask+sum", "image_loss_ratio": 0.5}, "vitbert"),
        ({"blocks": "2:10", "image_loss_ratio": 0.5}, "vitbert"),
        ({"image_loss_ratio": 0.5}, "joint"),
        # Variants share a command line.
        ({"mask_ratio": 0.3, "mask_ratio_per_update": 0.3, "mask_update_interval": 3}, "joint"),
    ],
)
def test_what_is_read_may_be_given(given, variant):
    assert not problems(given, variant)


def test_variants_without_masks():
    assert problems({"name": "mask+pcgrad"}, "joint").startswith("merge.name: ")
    names = {"mask": "sum", "random_mask": "sum", "mask+nash": "nash", "graddrop": "graddrop"}
    for name, expected in names.items():
        config = paper.get_config().with_values({"merge.name": name})
        assert config.as_variant("joint").merge.name == expected
        assert config.as_variant("vitbert").merge.name == name


def test_a_sum_without_masks_has_no_blocks():
    """Such as that of the teachers, which are trained with the config of their student."""
    for name, blocks in {"mask": None, "mask+nash": (2, 10)}.items():
        config = paper.get_config().with_values({"merge.blocks": "2:10", "merge.name": name})
        for variant in ("joint", "vit"):
            assert get_merge(config.as_variant(variant).merge).blocks == blocks
        assert get_merge(config.as_variant("vitbert").merge).blocks == (2, 10)

"""Names and options of merges: what a config may say, and what it refuses in one line."""

import contextlib
import re

import pytest

from keras_vitbert.configs import merges
from keras_vitbert.configs.checks import Requirements
from keras_vitbert.configs.overrides import flatten
from keras_vitbert.configs.pretraining import load_config
from keras_vitbert.configs.variants import VARIANTS, apply_variant
from keras_vitbert.merging import GradientMask, get_merge
from keras_vitbert.merging.entries import RANKS, SCOPES, TARGETS

PAPER = flatten(load_config("paper"))


def problems(given, variant="vitbert"):
    flat = {**PAPER, **{f"merge.{key}": value for key, value in given.items()}}
    checks = Requirements(flat)
    merges.check(checks, {f"merge.{key}" for key in given}, VARIANTS[variant])
    return " ".join(checks.problems.values())


def test_every_name_is_a_merge():
    names = [*merges.ENTRIES, *merges.WEIGHTINGS]
    names += [f"{e}+{w}" for e in merges.ENTRIES for w in merges.WEIGHTINGS if w != "alternate"]
    for name in names:
        assert not problems({"name": name}), name
        merge = get_merge({**load_config("paper").merge.to_dict(), "name": name})
        assert isinstance(merge.entries, GradientMask) == merges.has_masks(name)
        assert (merge.entries is None) == (merges.parts_of(name)[0] is None)
        assert merge.weighting.weighs_losses == (merges.parts_of(name)[1] in merges.OF_LOSSES)


def test_defaults_are_those_of_the_classes():
    for name, options in merges.OPTIONS.items():
        merge = get_merge({"name": name})
        layer = merge.entries if name in merges.ENTRIES else merge.weighting
        assert {option: getattr(layer, option) for option in options} == options
        assert {key: PAPER[f"merge.{name}.{key}"] for key in options} == options
    assert {*RANKS} == {*merges.RANKS, "random"} and SCOPES == merges.SCOPES
    assert TARGETS == merges.TARGETS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "pcgrd"}, "merge.name=pcgrd: .*pcgrad.*did you mean pcgrad"),
        ({"name": "pcgrad+mask"}, r"merge.name=pcgrad\+mask: must be one of mask, .* a \+ and one"),
        ({"name": "mask+alternate"}, "alternate uses one gradient per step"),
        ({"name": "nash", "blocks": "3"}, "merge.blocks=3: must be FIRST:END"),
        ({"name": "nash", "blocks": "3:3"}, "merge.blocks=3:3: must be FIRST:END"),
        ({"name": "nash", "blocks": "2:13"}, "merge.blocks=2:13: must end at or before .*, 12"),
        (
            {"name": "famo", "blocks": "2:3"},
            "merge.blocks=2:3: merge.name=famo weighs whole losses",
        ),
        ({"name": "sum", "per_block": True}, "merge.per_block=True: .* weighs whole losses"),
        ({"name": "mask", "per_block": True}, "merge.per_block=True: .* has no weights"),
        ({"name": "nash", "cagrad.radius": 0.3}, "merge.cagrad.radius=0.3: .*does not read it"),
        ({"name": "cagrad", "cagrad.radius": 1.0}, r"merge.cagrad.radius=1.0: must be in \[0, 1\)"),
        ({"name": "dwa", "dwa.window": 0}, "merge.dwa.window=0: must be at least 1"),
        ({"name": "fairgrad", "fairgrad.alpha": 0.0}, "merge.fairgrad.alpha=0.0: must be above 0"),
        ({"name": "nash", "mask_rank": "image"}, "merge.mask_rank=image: .* has no masks"),
        ({"name": "random_mask", "mask_rank": "image"}, "merge.mask_rank=image: .*ranks at random"),
        ({"name": "mask", "mask_rank": "size"}, "merge.mask_rank=size: must be one of text, image"),
        ({"name": "nash", "mask_target": "update"}, "merge.mask_target=update: .* has no masks"),
        ({"name": "mask", "mask_target": "sum"}, "merge.mask_target=sum: must be one of gradient"),
        ({"image_loss_ratio": 0.5}, "image_loss_ratio=0.5: merge.name=mask does not read it, leav"),
        (
            {"name": "nash", "image_loss_ratio": 0.5},
            "merge.image_loss_ratio=0.5: merge.name=nash does not read it",
        ),
        ({"name": "pcgrad", "mask_ratio": 0.3}, "merge.mask_ratio=0.3: .* has no masks, leave it"),
        (
            {"name": "sum", "mask_ratio_per_update": 0.5, "mask_update_interval": 3},
            "merge.mask_ratio_per_update=0.5: .* no masks.*mask_update_interval=3: .* no masks",
        ),
        ({"name": "mask", "mask_softness": 0.6}, r"merge.mask_softness=0.6: must be in \[0, 0.5\]"),
    ],
)
def test_what_cannot_work_is_refused(given, message):
    found = problems(given)
    assert re.search(message, found), found


@pytest.mark.parametrize(
    ("given", "variant"),
    [
        ({"name": "sum", "image_loss_ratio": 0}, "vitbert"),
        ({"name": "mask+sum", "image_loss_ratio": 0.5}, "vitbert"),
        ({"blocks": "2:10", "image_loss_ratio": 0.5}, "vitbert"),
        ({"image_loss_ratio": 0.5}, "joint"),
        ({"name": "random_mask", "mask_ratio": 0.3, "mask_update_interval": 3}, "vitbert"),
        # Variants share a command line.
        ({"mask_ratio": 0.3, "mask_ratio_per_update": 0.3, "mask_update_interval": 3}, "joint"),
    ],
)
def test_what_is_read_may_be_given(given, variant):
    assert not problems(given, variant)


@pytest.mark.parametrize("value", [-1, 0, 2])
def test_classes_refuse_what_a_config_refuses(value):
    for name, options in merges.OPTIONS.items():
        for option in options:
            refuses = contextlib.nullcontext()
            if problems({"name": name, f"{name}.{option}": value}):
                refuses = pytest.raises(ValueError, match=f"{option} {value} ")
            with refuses:
                get_merge({"name": name, name: {option: value}})


def test_variants_without_masks():
    message = "--variant=joint has no masks; take another, or pcgrad"
    assert message in problems({"name": "mask+pcgrad"}, "joint")
    assert not problems({"name": "pcgrad"}, "joint")
    config = load_config("paper")
    for name, expected in {
        "mask": "sum",
        "random_mask": "sum",
        "mask+nash": "nash",
        "nash": "nash",
        "graddrop": "graddrop",
    }.items():
        config.merge.name = name
        assert apply_variant(config, VARIANTS["joint"]).merge.name == expected
        assert apply_variant(config, VARIANTS["vitbert"]).merge.name == name


def test_a_sum_without_masks_has_no_blocks():
    """Such as that of the teachers, which are trained with the config of their student."""
    config = load_config("paper")
    config.merge.blocks = "2:10"
    for name, blocks in {"mask": None, "mask+nash": (2, 10), "graddrop": (2, 10)}.items():
        config.merge.name = name
        for variant in ("joint", "vit", "bert"):
            assert get_merge(apply_variant(config, VARIANTS[variant]).merge).blocks == blocks
        assert get_merge(apply_variant(config, VARIANTS["vitbert"]).merge).blocks == (2, 10)

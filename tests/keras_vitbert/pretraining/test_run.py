"""A run of pre-training: what it refuses, and the trainer that it makes."""

import types

import pytest

from keras_vitbert.configs import sample, variants
from keras_vitbert.pretraining.run import PretrainingRun, free_settings
from keras_vitbert.pretraining.run import pretrain as run_pretraining
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.runs.run_settings import RunSettings
from tests.keras_vitbert.tiny_runs import config_of


def pretrained_on(strategy, config, variant, folder):
    """Runs a variant under a strategy, as far as that goes without data."""
    variant = variants.find_variant(variant)
    config = variants.apply_variant(config, variant)
    return run_pretraining(
        PretrainingRun(config, RunFolder(str(folder)), None, strategy, None, variant)
    )


def test_batches_that_the_replicas_cannot_share(sources, tmp_path):
    three = types.SimpleNamespace(num_replicas_in_sync=3)
    for variant, flag, key in (
        ("vit", "--config.image_batch=5", "image_batch=5"),
        ("bert", "--config.image_batch=3", "text_batch=4"),
        ("joint", "--config.text_batch=6", "image_batch=4"),
    ):
        message = f"--config.{key}: must be a multiple of the number of replicas, 3"
        with pytest.raises(ValueError, match=message):
            pretrained_on(three, config_of(sources, flag), variant, tmp_path / "x")
    config = config_of(sources, "--config.image_batch=6", "--config.data.images.mixup=0.5")
    two = types.SimpleNamespace(num_replicas_in_sync=2)
    with pytest.raises(
        ValueError, match=r"image_batch=6: .* replicas, 2, times 2 as images are mix"
    ):
        pretrained_on(two, config, "vit", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_teachers_share_the_students_encoder(sources, tmp_path):
    config = config_of(sources, "--config.distillation.ratio=0.5", "--config.seed=9")
    variant = variants.find_variant("vitbert")
    run = PretrainingRun(config, RunFolder(str(tmp_path)), None, None, None, variant)
    for name in ("vit", "bert"):
        teacher = run.of_teacher(name, 321)
        assert teacher.variant.name == name
        assert teacher.folder.path == str(tmp_path / "teachers" / name)
        kind = {"vit": "image", "bert": "text"}[name]
        assert teacher.steps_flag == f"config.teachers.{kind}_steps"
        own = teacher.config
        assert (own.steps, own.distillation.ratio, own.merge.name) == (321, 0.0, "sum")
        for key in ("model", "optimizer", "data", "seed", "image_batch", "text_batch"):
            assert own[key] == config[key]
        assert run.of_teacher(name, 0).config.steps == config.steps > 0
    assert config.distillation.ratio == 0.5


@pytest.mark.parametrize(
    ("name", "changes", "refused"),
    [
        ("nash", {"mask_ratio": 0.3, "mask_update_interval": 7, "image_loss_ratio": 0.5}, None),
        ("mask", {"image_loss_ratio": 0.5}, None),
        ("mask", {"mask_ratio": 0.3}, "merge.mask_ratio=0.3, not 0.5"),
        ("sum", {"image_loss_ratio": 0.5}, "merge.image_loss_ratio=0.5, not 0.2"),
    ],
)
def test_an_older_run_resumes_without_settings_that_nothing_reads(tmp_path, name, changes, refused):
    """It began with flags that are now refused; its teachers too, whose merge is `sum`."""
    for variant in map(variants.find_variant, ("vitbert", "vit")):

        def begin(config, variant=variant):
            config = variants.apply_variant(config, variant)
            folder = RunFolder(str(tmp_path / variant.name))
            free = free_settings(config, variant)
            about = {"variant": variant.name}
            RunSettings(about, config, ["a"], {"images": 3}, free).begin(folder)

        config = sample.get_config()
        config.merge.name = name
        older = config.copy_and_resolve_references()
        older.merge.update(changes)
        begin(older)
        if refused and variant.name == "vitbert":
            with pytest.raises(ValueError, match=refused):
                begin(config)
        else:
            begin(config)

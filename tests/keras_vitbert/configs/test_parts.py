"""Numbers of steps that are given as a part of the run."""

import pytest

from keras_vitbert.fine_tuning import settings
from keras_vitbert.finetune import define_flags
from tests.keras_vitbert.configs.command_lines import FIXED, parsed_config


def test_parts_become_whole_steps(capsys):
    config = parsed_config(
        *("--config.steps=1000", "--config.optimizer.warmup_steps=0.1"),
        *("--config.validation_interval=0.05", "--config.merge.mask_update_interval=0.1"),
        *("--config.checkpoint_interval", "0.25", "--config.inspection.gradient_interval=1e-2"),
        "--config.teachers.text_steps=0.5",
    )
    found = (config.steps, config.optimizer.warmup_steps, config.validation_interval)
    assert found == (1000, 100, 40) and config.steps_per_epoch == 20
    assert (config.merge.mask_update_interval, config.checkpoint_interval) == (100, 250)
    assert (config.inspection.gradient_interval, config.teachers.text_steps) == (10, 500)
    assert all(type(value) is int for value in found)
    said = capsys.readouterr().err
    assert said.startswith("of 1000 steps: ") and said.count("\n") == 1
    assert "validation_interval=40" in said


@pytest.mark.parametrize("steps", [7, 50, 61, 333, 700, 1001])
@pytest.mark.parametrize("parts", [(0.05, 0.2), (0.3, 0.1), (0.02, 0.5)])
def test_what_must_be_a_multiple_is_rounded_to_one(steps, parts):
    epoch, validation = parts
    config = parsed_config(
        *("--variant=vit", f"--config.steps={steps}", "--config.optimizer.warmup_steps=0.99"),
        *("--config.teachers.image_steps=0", "--config.teachers.text_steps=0"),
        *(f"--config.steps_per_epoch={epoch}", f"--config.validation_interval={validation}"),
    )
    assert config.optimizer.warmup_steps < steps
    assert config.validation_interval % config.steps_per_epoch == 0
    smaller = max(round(min(parts) * steps), 1)
    assert config.steps_per_epoch == smaller  # a validation needs the end of an epoch
    assert abs(config.validation_interval - validation * steps) <= smaller / 2 + 0.5


def test_a_number_that_is_given_stays():
    fixed = [*FIXED, "--config.merge.mask_update_interval=20"]
    config = parsed_config(*fixed, "--config.validation_interval=0.05")
    assert (config.steps_per_epoch, config.validation_interval) == (100, 100)
    config = parsed_config(*fixed, "--config.validation_interval=0.5")
    assert (config.steps_per_epoch, config.validation_interval) == (100, 400)
    config = parsed_config(*fixed, "--config.steps_per_epoch=0.1")
    assert config.validation_interval == 700 and config.steps_per_epoch == 70
    config = parsed_config(
        *fixed, "--config.steps_per_execution=10", "--config.checkpoint_interval=.047"
    )
    assert config.checkpoint_interval == 30  # of 32.9


def test_the_last_one_holds():
    key = "--config.optimizer.warmup_steps"
    assert parsed_config(f"{key}=0.2", f"{key}=7").optimizer.warmup_steps == 7
    assert parsed_config(f"{key}=7", f"{key}=0.2").optimizer.warmup_steps == 80


def test_a_fifth_for_five_updates_of_the_masks_is_as_much_as_fits():
    flags = ["--config.steps=100", "--config.optimizer.warmup_steps=5"]
    interval = "--config.merge.mask_update_interval"
    assert parsed_config(*flags, f"{interval}=0.2").merge.mask_update_interval == 19
    with pytest.raises(ValueError, match="mask_update_interval=30: the masks reach"):
        parsed_config(*flags, f"{interval}=0.3")


def test_parts_of_fine_tuning():
    argv = ["--task=pets", "--config.evaluation_interval=0.1", "--config.checkpoint_interval=0.5"]
    config = settings.parse(argv, define_flags, "usage")[2]
    assert (config.steps, config.evaluation_interval, config.checkpoint_interval) == (500, 50, 250)
    assert config.checkpoint_interval == 250
    argv = ["--task=rte", "--config.steps=90", "--config.evaluation_interval=0.5"]
    assert settings.parse(argv, define_flags, "usage")[2].evaluation_interval == 45


def test_parts_of_a_run_whose_steps_follow_from_the_data(capsys):
    argv = ["--task=rte", "--config.evaluation_interval=0.1", "--config.checkpoint_interval=0.5"]
    _, task, config, given = settings.parse(argv, define_flags, "usage")
    assert (config.evaluation_interval, config.checkpoint_interval) == (-1, 1_000)  # not yet
    found = settings.with_parts(config, task, given, count=640)  # 3 epochs of 20 steps
    assert found.evaluation_interval == 6
    assert settings.with_intervals(found, 640, 277).steps_per_epoch == 3  # at most a twentieth
    assert (found.checkpoint_interval, found.steps) == (30, 0)
    assert capsys.readouterr().err.startswith("of 60 steps: ")


@pytest.mark.parametrize("argument", ["image_batch=0.5", "steps=0.5", "validation_interval=1.5"])
def test_other_numbers_have_no_parts(argument):
    with pytest.raises(ValueError, match=argument):
        parsed_config(f"--config.{argument}")

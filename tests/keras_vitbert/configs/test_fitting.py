"""What a refused config is told to add: it is taken to the command line again."""

import math
import random
import shlex

import pytest

from keras_vitbert.configs.fitting import nearest_divisor
from keras_vitbert.fine_tuning import settings
from keras_vitbert.finetune import define_flags
from tests.keras_vitbert.configs.command_lines import parsed_config

WORKS = "; this works, added to the command: "
VALUES = {
    "steps": (1, 2, 7, 61, 500, 1000),
    "steps_per_epoch": (1, 3, 100, 1000),
    "validation_interval": (1, 7, 500),
    "steps_per_execution": (0, 2, 5),
    "checkpoint_interval": (3, 100),
    "optimizer.warmup_steps": (0, 1, 50, 700),
    "merge.mask_update_interval": (1, 20, 450),
    "merge.mask_ratio_per_update": (0.1, 0.3),
    "teachers.image_steps": (0, 10, 500),
    "model.num_heads": (3, 4),
    "model.hidden_dim": (64, 130),
    "model.patch_size": (7, 9),
    "image_batch": (1, 64),
    "data.images.mixup": (0.0, 0.2),
    "model.dropout": (0.1, 2.0),
}


def given(number):
    """Arguments with some of the values."""
    draw = random.Random(number)
    keys = draw.sample(list(VALUES), draw.randint(2, 5))
    return {key: draw.choice(VALUES[key]) for key in keys}


def as_arguments(values):
    return [f"--config.{key}={value}" for key, value in values.items()]


def test_what_is_said_to_work_works():
    told = 0
    for number in range(60):
        values = given(number)
        config = ("--config=paper:tiny", "--config=sample")[number % 2]
        argv = [config, "--config.data.source=sample", *as_arguments(values)]
        try:
            parsed_config(*argv)
        except ValueError as error:
            if WORKS not in str(error):
                # One value is bad in itself, which its own text says.
                assert str(error).count("--config.") == 1 and "dropout=2.0" in str(error)
                continue
            told += 1
            parsed_config(*argv, *shlex.split(str(error).partition(WORKS)[2]))
    assert told > 40


def test_the_values_that_were_given_are_kept_where_that_is_possible():
    argv = ["--config=paper:tiny", "--config.steps=20", "--config.validation_interval=6"]
    with pytest.raises(ValueError) as caught:
        parsed_config(*argv)
    changed = shlex.split(str(caught.value).partition(WORKS)[2])
    assert set(changed) == {
        "--config.optimizer.warmup_steps=2",
        "--config.merge.mask_update_interval=3",  # five updates: the last one before step 16
        "--config.steps_per_epoch=6",
    }


def test_a_single_bad_value_is_its_own_fix():
    with pytest.raises(ValueError, match="^--config.steps=0: must be at least 1$"):
        parsed_config("--config.steps=0")


def test_fine_tuning_is_told_what_works_too():
    argv = ["--task=pets", "--config.evaluation_interval=150", "--config.batch=31"]
    argv += [
        "--config.images.mixup=0.2",
        "--config.optimizer.power=2.0",
    ]
    with pytest.raises(ValueError) as caught:
        settings.parse(argv, define_flags, "usage")
    works = shlex.split(str(caught.value).partition(WORKS)[2])
    assert "--config.optimizer.power=1.0" in works
    config = settings.parse([*argv, *works], define_flags, "usage")[2]
    assert config.batch == 30 and config.images.mixup == 0.2


def test_nothing_is_said_to_work_that_cannot_be_added():
    """A tuple that is given twice is one of all its values."""
    argv = ["--task=pets", "--config.grid=(0.1, 0.1)", "--config.optimizer.power=2.0"]
    message = "grid=.* holds a rate twice; leave one out; --config.optimizer.power=2.0: .*=cosine$"
    with pytest.raises(ValueError, match=message):
        settings.parse(argv, define_flags, "usage")


@pytest.mark.parametrize("number", [1, 7, 36, 97, 500])
def test_nearest_divisor(number):
    divisors = [n for n in range(1, number + 1) if number % n == 0]
    for to in range(1, 40):
        found = nearest_divisor(number, to)
        best = min(abs(math.log(n / to)) for n in divisors)
        assert found in divisors and abs(math.log(found / to)) == pytest.approx(best)

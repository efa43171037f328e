"""From the command line to a checked config of fine-tuning."""

import pytest

from keras_vitbert.configs import fine_tuning
from keras_vitbert.fine_tuning.settings import (
    changed_keys,
    check_config,
    check_executions,
    for_devices,
    steps_of,
    with_intervals,
)
from keras_vitbert.fine_tuning.tasks import TASKS


def config_of(name, **changes):
    config = fine_tuning.get_config(name, TASKS[name].kind)
    for key, value in changes.items():
        section, _, last = key.rpartition("__")
        (config[section] if section else config)[last] = value
    return config


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("pets", {"image_size": 1, "batch": 1, "steps": 1, "optimizer__layer_decay": 1.0}),
        ("pets", {"evaluation_interval": 200, "steps_per_epoch": 100, "seed": 2**31 - 1}),
        ("pets", {"optimizer__name": "adamw", "optimizer__epsilon": 1e-3}),
        ("sst2", {"max_length": 5, "buckets": (5,), "epochs": 0.01}),
        ("sst2", {"buckets": (), "optimizer__schedule": "polynomial", "optimizer__power": 2.0}),
        ("texts", {"data__sentence_columns": "a,b"}),
    ],
)
def test_settings_at_the_edge_work(name, changes):
    check_config(config_of(name, **changes), TASKS[name])


def test_keys_that_are_changed():
    changes = {"batch": 7, "optimizer__learning_rate": 0.5}
    assert changed_keys(config_of("pets"), TASKS["pets"]) == []
    changed = changed_keys(config_of("pets", **changes), TASKS["pets"])
    assert set(changed) == {"batch", "optimizer.learning_rate"}


def test_steps_are_given_or_follow_from_the_epochs():
    assert steps_of(config_of("pets", steps=7), 10_000) == 7
    config = config_of("sst2", epochs=2.5, batch=32)
    assert [steps_of(config, count) for count in (1, 6, 64, 1000)] == [1, 1, 5, 78]


def test_what_is_left_to_the_devices():
    config = config_of("sst2", buckets=(16, 32))
    on_tpu, here = for_devices(config, True), for_devices(config, False)
    assert (on_tpu.dtype, tuple(on_tpu.buckets)) == ("mixed_bfloat16", ())
    assert (here.dtype, tuple(here.buckets)) == ("float32", (16, 32))
    assert (config.dtype, tuple(config.buckets)) == ("auto", (16, 32))  # unchanged
    assert for_devices(config_of("pets", dtype="float32"), True).dtype == "float32"


def test_what_gpus_get():
    newer, older = [(8, 6)], [(7, 0)]
    config = config_of("pets")
    found = for_devices(config, False, newer)
    assert (found.dtype, found.jit_compile) == ("mixed_bfloat16", "on")
    assert (config.dtype, config.jit_compile) == ("auto", "auto")  # unchanged
    assert for_devices(config, False, older).dtype == "float32"
    shared = for_devices(config, False, newer * 2, shared=True)
    assert (shared.dtype, shared.jit_compile) == ("mixed_bfloat16", "off")
    config.images.layers = ("GridMask",)
    assert for_devices(config, False, newer).jit_compile == "off"
    config.jit_compile = "on"
    with pytest.raises(ValueError, match="jit_compile=on: XLA cannot compile GridMask .*layers.; "):
        for_devices(config, False, newer)


@pytest.mark.parametrize(
    ("given", "most", "expected"),
    [
        ({}, 1, (25, 1)),
        ({}, 10, (25, 5)),  # divides 500 steps, epochs of 25 and checkpoints every 1,000
        ({"steps": 10_000}, 100, (100, 100)),
        ({"steps": 10_000, "checkpoint_interval": 30}, 100, (100, 10)),
        ({"steps": 17}, 10, (1, 1)),
        ({"steps_per_epoch": 20}, 10, (20, 10)),
        ({"steps_per_epoch": 30, "evaluation_interval": 60}, 100, (30, 10)),
        # One that is given: epochs are multiples of it.
        ({"steps_per_execution": 4}, 1, (24, 4)),
        ({"steps_per_execution": 100}, 1, (100, 100)),
        ({"steps_per_execution": 4, "evaluation_interval": 20}, 1, (20, 4)),
    ],
)
def test_steps_of_an_execution(given, most, expected):
    config = config_of("pets", **given)
    check_config(config, TASKS["pets"])
    found = with_intervals(config, 3_000, 1_000, most)
    executed = found.steps_per_execution
    assert (found.steps_per_epoch, executed) == expected
    for key in ("steps", "steps_per_epoch", "checkpoint_interval", "evaluation_interval"):
        assert found[key] % executed == 0
    assert config.steps_per_execution == given.get("steps_per_execution", 0)


@pytest.mark.parametrize(
    ("given", "counts", "message"),
    [
        ({"steps_per_execution": 2}, [320, 288], "divisor of the steps, which are 27 by the data"),
        ({"steps_per_execution": 4}, [320, 288], "which are 30 and 27 by .* --config.steps=28$"),
        ({"steps_per_execution": 50}, [320], "which are 30 by .* --config.steps=50$"),
    ],
)
def test_an_execution_that_does_not_divide_the_steps_of_the_data(given, counts, message):
    config = config_of("sst2", checkpoint_interval=100, **given)
    check_config(config, TASKS["sst2"])
    with pytest.raises(ValueError, match=message):
        check_executions(config, counts)
    check_executions(config, [3200 // 3])  # 100 steps
    config.steps_per_execution = 0
    check_executions(config, counts)


@pytest.mark.parametrize(
    ("given", "evaluated", "expected"),
    [
        ({}, 1000, (25, 25)),  # 20 evaluations of 1,000 are under 3 % of 500 * 512 updates
        ({}, 10_000, (25, 250)),  # 2 evaluations
        ({}, 40_000, (25, 0)),  # none
        ({"steps": 10_000}, 10_000, (100, 500)),
        ({"steps": 17}, 100, (1, 6)),  # 100 take a batch of 256
        ({"steps_per_epoch": 100}, 1000, (100, 100)),
        ({"steps_per_epoch": 900}, 1000, (500, 500)),
        ({"evaluation_interval": 0}, 1000, (25, 0)),
        ({"evaluation_interval": 30}, 1000, (15, 30)),  # its ends are ends of epochs
        ({"evaluation_interval": 200, "steps_per_epoch": 40}, 10**6, (40, 200)),
    ],
)
def test_points_of_the_curves(given, evaluated, expected):
    config = config_of("pets", **given)
    check_config(config, TASKS["pets"])
    found = with_intervals(config, 3_000, evaluated)
    assert (found.steps_per_epoch, found.evaluation_interval) == expected
    before = {"steps_per_epoch": 0, "evaluation_interval": -1, **given}
    assert all(config[key] == value for key, value in before.items())

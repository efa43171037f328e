"""`pretrain` makes the same numbers on several devices, and with several steps an execution."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from pipelines.command_line import EXIT_DONE
from tests.keras_vitbert.tiny_runs import arguments, checkpoint_values, metrics_rows, pretrain
from tests.keras_vitbert.whole_runs import assert_same_inspection, tensorboard_scalars


@pytest.mark.slow
def test_steps_of_one_execution_make_the_same_numbers(finished, sources, tmp_path):
    """Executions of two steps: masks, logs and checkpoints fall between them."""
    flags = ["--variant=vitbert_no_kd", "--config.teachers.image_steps=4"]
    assert pretrain(sources, tmp_path, *flags, "--config.steps_per_execution=2") == EXIT_DONE
    found, wanted = (checkpoint_values(run) for run in (tmp_path, finished("vitbert_no_kd")))
    # Probes look at another step, and only they. Of the first epoch that is step 3 instead of 4.
    probes = ("text_gradient_norm", "image_gradient_norm", "gradient_cosine")
    for ours, theirs in zip(
        metrics_rows(tmp_path), metrics_rows(finished("vitbert_no_kd")), strict=True
    ):
        for name in probes:
            del ours[name], theirs[name]
        assert ours == theirs
    looks = tensorboard_scalars(tmp_path)["train", "gradient_conflict/cosine/all"]
    assert sorted(looks) == [3, 7, 9]
    assert_same_inspection(tmp_path, finished("vitbert_no_kd"))


REPLICAS = """
import sys
import tensorflow as tf

replicas = int(sys.argv[1])
[cpu] = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)

from keras_vitbert import pretrain

from pipelines import command_line

devices = [f"CPU:{index}" for index in range(replicas)]
pretrain.get_strategy = lambda *flags: tf.distribute.MirroredStrategy(devices)
sys.exit(command_line.run(pretrain.main, sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_make_the_same_numbers(finished, sources, tmp_path, replicas):
    """Losses and validations of every epoch too: the replicas hold unequal numbers of words."""
    flags = ["--variant=vitbert_no_kd", "--config.model.dropout=0"]
    wanted = finished(*[flag.removeprefix("--variant=") for flag in flags])
    argv = arguments(sources, f"--output_dir={tmp_path}", *flags)
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS, str(replicas), *argv],
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == EXIT_DONE and f"on each of {replicas} replicas" in done.stderr, (
        done.stderr
    )
    for ours, theirs in zip(metrics_rows(tmp_path), metrics_rows(wanted), strict=True):
        for name in theirs:
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-4, abs=1e-6)
    found, expected = checkpoint_values(tmp_path), checkpoint_values(wanted)
    assert set(found) == set(expected)
    for name, value in expected.items():
        if not name.startswith("metrics"):
            np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    # What is looked at are the gradients of all replicas.
    assert_same_inspection(tmp_path, wanted, "masks")
    looks = [tensorboard_scalars(run) for run in (tmp_path, wanted)]
    for key, values in looks[1].items():
        if "gradient_conflict" in key[1] and "opposite" not in key[1]:
            assert looks[0][key] == pytest.approx(values, rel=1e-3, abs=1e-5)

"""`pretrain` makes the same numbers on several devices, and with several steps an execution."""

import shutil

import numpy as np
import pytest

from keras_vitbert import pretrain as pretrain_command
from pipelines import command_line
from pipelines.command_line import EXIT_DONE
from tests.forked import Forked
from tests.keras_vitbert.tiny_runs import (
    arguments,
    assert_same_values,
    checkpoint_values,
    metrics_rows,
    pretrain,
)
from tests.keras_vitbert.training.replicas_script import make_strategy, set_devices
from tests.keras_vitbert.whole_runs import assert_same_inspection, tensorboard_scalars


@pytest.mark.slow
def test_steps_of_one_execution_make_the_same_numbers(finished, sources, tmp_path):
    """Executions of two steps: masks, logs and checkpoints fall between them."""
    flags = ["--variant=vitbert_no_kd", "--config.teachers.image_steps=4"]
    assert pretrain(sources, tmp_path, *flags, "--config.steps_per_execution=2") == EXIT_DONE
    assert_same_values(checkpoint_values(tmp_path), checkpoint_values(finished("vitbert_no_kd")))
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


def pretrain_on(replicas, argv):
    """The command on a number of logical CPUs, in a process of its own."""
    set_devices(replicas)
    pretrain_command.get_strategy = lambda *flags: make_strategy(replicas)
    return command_line.run(pretrain_command.main, argv)


# The run on one device that the others are compared with; with checkpoints within epochs.
ONE_DEVICE = [
    *("vitbert_no_kd", "--config.model.dropout=0"),
    *("--config.checkpoint_interval=3", "--config.checkpoints_to_keep=9"),
]


def flags_of(variant, *flags):
    return [f"--variant={variant}", *flags]


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [2, 4])
def test_a_run_goes_on_with_other_replicas(finished, sources, tmp_path, replicas):
    """From the middle of an epoch: what it has summed up is shared among the replicas."""
    wanted = finished(*ONE_DEVICE)
    shutil.copytree(wanted, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    (tmp_path / "run" / "checkpoints" / "LAST").write_text("step-00000006")
    argv = arguments(sources, f"--output_dir={tmp_path}/run", *flags_of(*ONE_DEVICE))
    status, errors = Forked(pretrain_on, replicas, argv).end()
    assert status == EXIT_DONE and "resumed at step 6 of 10" in errors, errors
    assert f"began on 1 replica and goes on with {replicas}: the batches are the same" in errors
    found, expected = checkpoint_values(tmp_path / "run"), checkpoint_values(wanted)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-6, err_msg=name)
    for ours, theirs in zip(metrics_rows(tmp_path / "run"), metrics_rows(wanted), strict=True):
        for name in theirs:
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-5, abs=1e-6)


@pytest.mark.slow
def test_four_replicas_make_the_same_numbers(finished, sources, tmp_path):
    """Losses and validations of every epoch too: the replicas hold unequal numbers of words.

    Two replicas, in two processes, are in `runs/test_workers.py`.
    """
    wanted = finished(*ONE_DEVICE)
    argv = arguments(sources, f"--output_dir={tmp_path}", *flags_of(*ONE_DEVICE))
    status, errors = Forked(pretrain_on, 4, argv).end()
    assert status == EXIT_DONE and "on each of 4 replicas" in errors, errors
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

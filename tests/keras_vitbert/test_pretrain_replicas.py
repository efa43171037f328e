"""`pretrain` makes the same numbers on several devices, and with several steps an execution."""

import shutil

import numpy as np
import pytest

from keras_vitbert import pretrain as pretrain_command
from keras_vitbert.inspection.values import read_values
from keras_vitbert.runs import machine
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
    runs = tmp_path, finished("vitbert_no_kd")
    for ours, theirs in zip(*map(metrics_rows, runs), strict=True):
        for name in probes:
            del ours[name], theirs[name]
        assert ours == theirs
    looks = tensorboard_scalars(tmp_path)["train", "gradient/gradient_cosine"]
    assert sorted(looks) == [3, 7, 9]
    assert_same_inspection(tmp_path, finished("vitbert_no_kd"))


def pretrain_on(replicas, argv):
    """The command on a number of logical CPUs, in a process of its own."""
    set_devices(replicas)
    machine.get_strategy = lambda *flags: make_strategy(replicas)
    return command_line.run(pretrain_command.main, argv)


# A run on one device, with checkpoints within epochs.
ONE_DEVICE = [
    "vitbert_no_kd",
    "--config.data.images.augmentations=[{'class_name': 'RandomApply', "
    "'config': {'rate': 0.5, 'layer': {'class_name': 'RandomCutout', "
    "'config': {'height_factor': 0.5, 'width_factor': 0.5}}}}]",
    *("--config.checkpoint_interval=3", "--config.checkpoints_to_keep=9"),
    "--config.inspection.activation_interval=10",
]


@pytest.mark.slow
def test_a_run_goes_on_with_replicas(finished, sources, tmp_path):
    """From the middle of an epoch: what it has summed up is shared among the replicas.

    They hold unequal numbers of masked tokens. A whole run on two replicas, in two processes, is in
    `runs/test_machine.py`.
    """
    wanted, replicas = finished(*ONE_DEVICE), 2
    folder = shutil.copytree(wanted, tmp_path / "run")
    (folder / "summary.json").unlink()
    (folder / "checkpoints" / "LAST").write_text("step-00000006")
    variant, *flags = ONE_DEVICE
    argv = arguments(sources, f"--output_dir={folder}", f"--variant={variant}", *flags)
    status, errors = Forked(pretrain_on, replicas, argv).end()
    assert status == EXIT_DONE and "resumed at step 6 of 10" in errors, errors
    told = f"replicas 1, now {replicas}"
    assert told in errors and f"steps on {replicas} replicas" in errors
    found, expected = checkpoint_values(folder), checkpoint_values(wanted)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-6, err_msg=name)
    for ours, theirs in zip(metrics_rows(folder), metrics_rows(wanted), strict=True):
        for name in theirs:
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-5, abs=1e-6)
    # What is looked at are the gradients and activations of all replicas.
    assert_same_inspection(folder, wanted, "masks")
    found, expected = (read_values(str(run), "activations")[10] for run in (folder, wanted))
    for modality in ("image", "text"):
        np.testing.assert_allclose(found[modality], expected[modality], rtol=1e-4)
    ours, theirs = (tensorboard_scalars(run) for run in (folder, wanted))
    for name in ("gradient_cosine", "text_gradient_norm", "image_gradient_norm"):
        looks = theirs["train", f"gradient/{name}"]
        assert max(looks) > 6
        assert ours["train", f"gradient/{name}"] == pytest.approx(looks, rel=1e-3, abs=1e-5)

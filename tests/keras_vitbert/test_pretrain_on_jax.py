"""Runs of `pretrain` on JAX, and runs that go on on the other backend."""

import shutil
import signal

import numpy as np
import pytest

from pipelines.command_line import EXIT_DONE
from tests.keras_vitbert.jax_process import call
from tests.keras_vitbert.tiny_runs import (
    arguments,
    assert_same_values,
    checkpoint_values,
    metrics_rows,
    pretrain,
    summary_of,
)

# Ten steps and more after the checkpoint of step 6, the last one before a kill in step 9.
FLAGS = ("--variant=vitbert_no_kd", "--config.steps=18", "--config.checkpoint_interval=6")


# Blocks whose kernels have just enough entries for four devices to divide them.
@pytest.fixture(scope="module")
def on_jax(sources, tmp_path_factory):
    """A function of a folder that runs or goes on with the run there: (status, stderr)."""
    cache = tmp_path_factory.mktemp("programs")

    def run(folder, *flags, **options):
        argv = arguments(sources, f"--output_dir={folder}", *FLAGS, *flags)
        return call(cache, "pretrain", *argv, **options)

    return run


@pytest.fixture(scope="module")
def killed(on_jax, tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed") / "run"
    status, errors = on_jax(folder, killed_in=9)
    assert status == -signal.SIGKILL, errors
    return folder


@pytest.fixture(scope="module")
def whole(on_jax, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    status, errors = on_jax(folder)
    assert status == EXIT_DONE, errors
    return folder


def assert_close(folder, whole):
    """The runs ended with the same up to rounding: weights, moments, masks and the log."""
    found, expected = checkpoint_values(folder), checkpoint_values(whole)
    assert found.keys() == expected.keys()
    apart = entries = 0
    for name, values in expected.items():
        if "Smask" in name:
            apart += np.count_nonzero(found[name] != values)
            entries += values.size
        elif "seed_generator" not in name:
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-4, err_msg=name)
    assert entries > 0 and apart <= entries / 1000
    for row, known in zip(metrics_rows(folder), metrics_rows(whole), strict=True):
        for name, value in known.items():
            assert float(row[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-4), name


@pytest.mark.slow
def test_killed_it_goes_on_to_the_bit(on_jax, killed, whole, tmp_path):
    folder = shutil.copytree(killed, tmp_path / "run")
    status, errors = on_jax(folder)
    assert status == EXIT_DONE and "resumed at step 6 of 18" in errors
    assert_same_values(checkpoint_values(folder), checkpoint_values(whole))
    assert metrics_rows(folder) == metrics_rows(whole)
    assert summary_of(folder)["versions"].keys() > {"tensorflow", "keras", "jax", "jaxlib"}


@pytest.mark.slow
def test_it_goes_on_on_tensorflow(sources, killed, whole, tmp_path, capsys):
    folder = shutil.copytree(killed, tmp_path / "run")
    assert pretrain(sources, folder, *FLAGS) == EXIT_DONE
    assert "backend jax, now tensorflow" in capsys.readouterr().err
    assert_close(folder, whole)

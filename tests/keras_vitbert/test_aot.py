"""The command that proves a run without a TPU: bad flags, its report, and real compilations."""

import json
import subprocess
import sys

import pytest
import tensorflow as tf

from keras_vitbert import aot
from keras_vitbert.configs.devices import SHARDINGS
from keras_vitbert.extras.ahead_of_time import aot_compile, programs
from keras_vitbert.extras.ahead_of_time.programs import Programs, StepProgram
from pipelines import command_line
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DONE
from tests.keras_vitbert.extras.ahead_of_time.results import compiled, needs_compiler, refused
from tests.keras_vitbert.tiny_runs import CONFIG


@pytest.fixture
def small(tmp_path):
    """The smallest model with all parts, in bfloat16 and with dropout."""
    path = tmp_path / "config.py"
    path.write_text(
        CONFIG.format(
            folder=tmp_path, batch=16, image_size=8, classes=3, vocabulary_size=32, length=16
        )
    )
    return path


@pytest.mark.parametrize("fits", [True, False])
def test_what_fits_or_not_is_told_and_written(small, tmp_path, monkeypatch, capsys, fits):
    """With a stand-in for the TPU's compiler."""
    program, result = compiled(peak=3) if fits else refused(20), tmp_path / "new" / "result.json"
    monkeypatch.setattr(aot_compile, "compile_apart", lambda *traced: program)
    monkeypatch.setattr(aot, "check_installed", lambda: None)
    flags = [f"--config={small}", "--tpu=v3-8", "--variant=vit", "--programs=train"]
    status = command_line.run(aot.main, [*flags, f"--json={result}"])
    assert status == (EXIT_DONE if fits else EXIT_BAD_INPUT)
    outcome, (printed, errors) = json.loads(result.read_text()), capsys.readouterr()
    assert outcome["memory"]["fits"] == fits and outcome["programs"] == {"train": program}
    if fits:
        assert "fits: 3.00 GiB of 15.48 GiB a replica" in printed
    else:
        assert "does not fit: 20.00 GiB of 15.48 GiB a replica" in printed and "v3-8" in errors


@pytest.mark.parametrize("fits", [True, False])
def test_another_variant_is_compared(small, tmp_path, monkeypatch, capsys, fits):
    """With stand-ins for the steps of both variants and for the TPU's compiler."""
    built = []

    def programs_of(config, strategy):
        built.append(config.variant)
        step = StepProgram("train", lambda x: x + 1, tf.TensorSpec((4,), tf.float32))
        return Programs([step], [], {"images": 8}, text_length=16, run_steps=10)

    other = compiled(operations=6.15e12 * 1.5) if fits else refused(20)
    results = [compiled(), other]
    monkeypatch.setattr(programs, "pretraining_programs", programs_of)
    monkeypatch.setattr(aot_compile, "compile_apart", lambda *traced: results.pop(0))
    monkeypatch.setattr(aot, "check_installed", lambda: None)
    flags = ["--tpu=v3-8", "--variant=vit", "--compare=bert", f"--json={tmp_path}/result.json"]
    assert command_line.run(aot.main, [f"--config={small}", *flags]) == EXIT_DONE
    assert built == ["vit", "bert"]
    compared = json.loads((tmp_path / "result.json").read_text())["compared"]
    assert (compared["with"], compared["program"]) == ("bert", other)
    [line] = [row for row in capsys.readouterr().out.splitlines() if row.startswith("against")]
    assert ("operations -33.33%" if fits else "does not fit") in line


@needs_compiler
@pytest.mark.slow
def test_everything_is_compiled_and_masks_cost_nothing(small, tmp_path):
    result = tmp_path / "result.json"
    flags = ["--variant=vitbert", "--compare=joint", f"--json={result}"]
    assert (
        command_line.run(aot.main, [f"--config={small}", "--tpu=v5litepod-16", *flags]) == EXIT_DONE
    )
    outcome = json.loads(result.read_text())
    assert list(outcome["programs"]) == ["train", "mask update", "validate"]
    sums = {name: p["collectives"] for name, p in outcome["programs"].items()}
    assert set(sums["train"]) == set(sums["mask update"]) == {"all-reduce"} and not sums["validate"]
    assert outcome["compared"]["differences"]["all_reduced_bytes"] == 0
    train = outcome["programs"]["train"]
    # The gradients of all weights, and the sum of the examples' weights, are summed once.
    assert 0 < train["collectives"]["all-reduce"]["bytes"] < outcome["variables_bytes"] / 3
    assert train["operations"] > 3 * outcome["programs"]["validate"]["operations"] > 0
    # Both gradients on the shared encoder by themselves, for Algorithm 1.
    assert sums["mask update"]["all-reduce"]["bytes"] > sums["train"]["all-reduce"]["bytes"]


@needs_compiler
@pytest.mark.slow
def test_the_step_of_jax_sums_what_that_of_tensorflow_does(small, tmp_path):
    """Divided, its variables take less of a device."""
    # Smaller weights are not divided.
    widths = "--config.model.hidden_dim=128", "--config.model.intermediate_dim=256"
    flags = [f"--config={small}", "--tpu=v3-8", "--programs=train", *widths]
    assert command_line.run(aot.main, [*flags, f"--json={tmp_path}/tensorflow.json"]) == EXIT_DONE
    for sharding in SHARDINGS:
        more = f"--config.sharding={sharding}", f"--json={tmp_path}/{sharding}.json"
        command = [sys.executable, "-m", "keras_vitbert.aot", "--backend=jax", *flags, *more]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == EXIT_DONE, done.stderr
    tensorflow, jax, divided = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("tensorflow", *SHARDINGS)
    )
    steps = [outcome["programs"]["train"] for outcome in (tensorflow, jax, divided)]
    assert steps[1]["collectives"].keys() == {"all-reduce"}
    summed = [step["collectives"]["all-reduce"]["bytes"] for step in steps]
    assert summed[1] == pytest.approx(summed[0], rel=0.01)
    # Not eight times as many, which are those of a step that is not divided.
    assert steps[1]["operations"] == pytest.approx(steps[0]["operations"], rel=0.2)
    assert jax["variables_bytes"] == pytest.approx(tensorflow["variables_bytes"], rel=0.01)
    assert divided["variables_bytes"] < jax["variables_bytes"] / 2
    assert steps[2]["arguments"] < steps[1]["arguments"]

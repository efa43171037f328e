"""The command that proves a run without a TPU: bad flags, its report, and real compilations."""

import importlib.util
import json
import re
import subprocess
import sys

import pytest

from keras_vitbert import aot
from keras_vitbert.ahead_of_time import gpu, proof
from keras_vitbert.configs.devices import SHARDINGS
from pipelines import command_line
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DONE
from tests.keras_vitbert.ahead_of_time.results import GIB, compiled, needs_compiler, refused
from tests.keras_vitbert.tiny_runs import CONFIG
from tests.marks import slow, thorough
from tests.said import without_status

# --- bad flags ------------------------------------------------------------------------------------


def test_programs_that_are_none():
    argv = ["--tpu=v3-8", "--config=sample", "--variant=vit"]
    with pytest.raises(ValueError, match="'probe'.* train, validate"):
        aot.main([*argv, "--programs=probe"])


def test_without_the_compiler_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"package jax.*pip install -e \"\.\[aot\]\""):
        aot.main(["--tpu=v3-8"])


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--gpu=16", "--tpu=v3-8"], "--gpu "),
        (["--gpu=16", "--compare=joint"], "--compare "),
        (["--gpu=16", "--explain"], "--explain "),
        (["--gpu=16,x"], "--gpu=16,x: 'x'"),
    ],
)
def test_gpus_that_are_none(argv, message):
    with pytest.raises(ValueError, match=message):
        aot.main(["--config=sample", *argv])


# --- the report, and real compilations -----------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """The smallest model with all parts, in bfloat16 and with dropout."""
    path = tmp_path / "config.py"
    path.write_text(
        CONFIG.format(
            folder=tmp_path,
            batch=16,
            image_size=8,
            classes=3,
            vocabulary_size=32,
            length=16,
        )
    )
    return path


def test_a_config_or_a_module_is_not_overwritten(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(aot, "check_installed", lambda: None)
    (tmp_path / "mine.py").write_text("import keras\n")
    for argv in ([f"--config={small}"], ["mine:step"]):
        path = small if argv[0].startswith("--") else tmp_path / "mine.py"
        before = path.read_text()
        with pytest.raises(ValueError, match=f"{path}: would overwrite"):
            aot.main([*argv, "--tpu=v3-8", f"--json={path}"])
        assert path.read_text() == before


@pytest.fixture
def compiler(monkeypatch):
    """`compiler(result, ...)` stands in for the TPU's: its results, one a call."""

    def stand_in(*results):
        remaining = [({"train": result}, GIB) for result in results]
        monkeypatch.setattr(proof, "_compiled", lambda *args, **options: remaining.pop(0))
        monkeypatch.setattr(aot, "check_installed", lambda: None)

    return stand_in


def test_what_fits_is_compared_told_and_written(compiler, small, tmp_path, capsys):
    result = tmp_path / "new" / "result.json"
    compiler(compiled(peak=3), compiled(peak=2))
    argv = [f"--config={small}", "--tpu=v3-8", "--compare=joint", f"--json={result}"]
    assert command_line.run(aot.main, argv) == EXIT_DONE
    outcome, printed = json.loads(result.read_text()), capsys.readouterr().out
    assert outcome["memory"]["fits"] and outcome["programs"]["train"] == compiled(peak=3)
    assert outcome["batch"] == {"images": 16, "texts": 16}
    assert outcome["replica_batch"] == {"images": 2, "texts": 2}
    assert outcome["compared"]["differences"]["peak"] == 0.5
    assert "fits: 3.00 GiB of 15.48 GiB a replica" in printed
    assert "against joint: operations +0.00%, bytes +0.00%, peak +50.00%" in printed


def test_the_proof_is_told_although_the_other_does_not_fit(compiler, small, tmp_path, capsys):
    result = tmp_path / "result.json"
    compiler(compiled(peak=3), refused(20))
    argv = [f"--config={small}", "--tpu=v3-8", "--compare=joint", f"--json={result}"]
    assert command_line.run(aot.main, argv) == EXIT_BAD_INPUT
    printed, errors = capsys.readouterr()
    outcome = json.loads(result.read_text())
    assert outcome["memory"]["fits"] and "compared" not in outcome
    assert "fits: 3.00 GiB of 15.48 GiB a replica" in printed
    [error] = without_status(errors)
    assert "joint" in error


def test_what_does_not_fit_is_told_and_written(compiler, small, tmp_path, capsys):
    result = tmp_path / "result.json"
    compiler(refused(20), compiled(peak=9))  # two images a replica, then one
    argv = [f"--config={small}", "--tpu=v3-8", "--variant=vit", f"--json={result}"]
    assert command_line.run(aot.main, argv) == EXIT_BAD_INPUT
    printed, errors = capsys.readouterr()
    outcome = json.loads(result.read_text())
    assert not outcome["memory"]["fits"] and outcome["largest"]["batch"] == {"images": 8}
    assert "does not fit: 20.00 GiB of 15.48 GiB a replica" in printed
    assert "8 images a step" in printed
    [error] = without_status(errors)
    assert "--tpu=v3-8" in error


@pytest.mark.parametrize("task", [(), ("--task=cifar10", "--config.image_size=12")])
@pytest.mark.parametrize("halved", ["accumulation=2", "mixup=0.2"])
def test_the_batch_that_fits_is_one_that_can_be_shared(compiler, small, task, halved, tmp_path):
    """Of six images a replica, four fit; five are neither two equal parts nor pairs."""
    result = tmp_path / "result.json"
    compiler(refused(20), compiled(peak=9))
    if task:
        flags = [*task, f"--architecture={small}", "--config.batch=48"]
    else:
        flags = [f"--config={small}", "--variant=vit", "--config.image_batch=48"]
    views = "images." if task else "data.images."
    flags.append(f"--config.{views if halved.startswith('mixup') else ''}{halved}")
    argv = ["--tpu=v3-8", f"--json={result}", *flags]
    assert command_line.run(aot.main, argv) == EXIT_BAD_INPUT
    assert json.loads(result.read_text())["largest"]["batch"] == {"images": 32}


def test_the_table_is_printed_before_the_file_is_written(small, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "gone"

    def compile_programs(*args, **options):
        folder.rmdir()
        return {"train": compiled(peak=3)}, GIB

    monkeypatch.setattr(proof, "_compiled", compile_programs)
    monkeypatch.setattr(aot, "check_installed", lambda: None)
    with pytest.raises(OSError):
        aot.main([f"--config={small}", "--tpu=v3-8", f"--json={folder}/result.json"])
    assert "fits: 3.00 GiB of 15.48 GiB a replica" in capsys.readouterr().out


@needs_compiler
@pytest.mark.slow
def test_a_step_is_compiled(small, tmp_path, capsys):
    """By the TPU's compiler, teachers included; here of images alone, as it takes long."""
    result = tmp_path / "result.json"
    argv = [f"--config={small}", "--tpu=v3-8", "--variant=vit", f"--json={result}"]
    assert command_line.run(aot.main, argv) == EXIT_DONE
    outcome, printed = json.loads(result.read_text()), capsys.readouterr().out
    assert list(outcome["programs"]) == ["train", "validate"]
    train = outcome["programs"]["train"]
    # The gradients of all weights, and the sum of the examples' weights, are summed once.
    parameters = outcome["variables_bytes"]
    assert 0 < train["collectives"]["all-reduce"]["bytes"] < parameters / 3
    assert set(train["collectives"]) == {"all-reduce"}
    assert train["available"] == pytest.approx(15.48 * GIB, rel=1e-3)
    assert train["operations"] > 3 * outcome["programs"]["validate"]["operations"] > 0
    assert outcome["tpu"]["hosts"] == 1 and outcome["replica_batch"] == {"images": 2}
    assert re.search(r"fits: (?!0\.00)\d+\.\d\d [MK]iB of 15.48 GiB a replica", printed)
    assert "images/s" in printed


@needs_compiler
@pytest.mark.thorough
def test_a_step_of_the_architecture_of_bert_is_compiled(small, tmp_path):
    """All weights that both modalities share, the norm after the embeddings among them."""
    result = tmp_path / "result.json"
    model = ("norm=post", "text_head=bert", "patch_bias=True")
    flags = [f"--config.model.{part}" for part in model]
    argv = [f"--config={small}", "--tpu=v3-8", "--variant=joint", *flags]
    argv += [f"--json={result}", "--programs=train"]
    assert command_line.run(aot.main, argv) == EXIT_DONE
    outcome = json.loads(result.read_text())
    assert outcome["memory"]["fits"] and set(outcome["programs"]) == {"train"}


@needs_compiler
@pytest.mark.slow
def test_everything_is_compiled_and_masks_cost_nothing(small, tmp_path):
    result = tmp_path / "result.json"
    flags = ["--variant=vitbert", "--compare=joint", f"--json={result}", "--jobs=2"]
    assert (
        command_line.run(aot.main, [f"--config={small}", "--tpu=v5litepod-16", *flags]) == EXIT_DONE
    )
    outcome = json.loads(result.read_text())
    assert list(outcome["programs"]) == ["train", "mask update", "validate"]
    sums = {name: p["collectives"] for name, p in outcome["programs"].items()}
    assert set(sums["train"]) == set(sums["mask update"]) == {"all-reduce"} and not sums["validate"]
    assert outcome["compared"]["differences"]["all_reduced_bytes"] == 0
    # Both gradients on the shared encoder by themselves, for Algorithm 1.
    assert sums["mask update"]["all-reduce"]["bytes"] > sums["train"]["all-reduce"]["bytes"]


@needs_compiler
@pytest.mark.parametrize("task, kind", [slow("pets", "images"), thorough("mnli", "texts")])
def test_fine_tuning_is_compiled(small, tmp_path, task, kind):
    result = tmp_path / "result.json"
    flags = [f"--task={task}", f"--architecture={small}", f"--json={result}", "--config.batch=16"]
    if kind == "images":
        flags.append("--config.image_size=12")
    assert command_line.run(aot.main, ["--tpu=v4-8", *flags]) == EXIT_DONE
    outcome = json.loads(result.read_text())
    assert list(outcome["programs"]) == ["train", "evaluate"] and outcome["memory"]["fits"]
    assert outcome["replica_batch"] == {kind: 4}


@pytest.mark.slow
def test_a_run_on_gpus(small, tmp_path, capsys, monkeypatch):
    """Needs no compiler; sizes are tens of kilobytes here."""
    monkeypatch.setattr(gpu, "usable", lambda size: size * 10**4)
    result = tmp_path / "result.json"
    argv = [f"--config={small}", "--gpu=1,900", f"--json={result}"]
    assert command_line.run(aot.main, argv) == EXIT_BAD_INPUT
    printed, errors = capsys.readouterr()
    none, all_ = json.loads(result.read_text())["gpus"]
    assert none["parts"] is None and none["part"] == {"images": 1, "texts": 1}
    assert all_["parts"] == 1 and all_["part"] == {"images": 16, "texts": 16}
    assert list(all_["programs"]) == ["train", "mask update", "validate"]
    for name in all_["programs"]:
        assert none["programs"][name]["tensors"] < all_["programs"][name]["tensors"]
    assert "none fits" in printed and "mask update" in printed
    assert "--gpu=1,900" in errors.splitlines()[-1]


@pytest.mark.slow
def test_a_fine_tuning_on_gpus(small, tmp_path):
    result = tmp_path / "result.json"
    argv = ["--gpu=16", "--task=mnli", f"--architecture={small}", f"--json={result}"]
    assert command_line.run(aot.main, argv) == EXIT_DONE
    [found] = json.loads(result.read_text())["gpus"]
    assert found["parts"] == 1 and list(found["programs"]) == ["train", "evaluate"]


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

"""The command `reproduce`: what it plans and refuses, and a tiny table from start to end."""

import dataclasses
import importlib
import json
import re

import pytest

from keras_vitbert import reproduce
from keras_vitbert.reproduction import reproducing, running, scales
from keras_vitbert.reproduction.experiments import JOINT, RAND, Experiment, Recipe, Row
from keras_vitbert.reproduction.scales import Task
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DONE, run
from tests.forked import Forked
from tests.keras_vitbert.tiny_tasks import IMAGE_FLAGS


def call(*argv):
    return run(reproduce.main, list(map(str, argv)))


def run_module(_, module, *argv):
    """As `python -m module ...` does."""
    return run(importlib.import_module(module).main, list(argv))


def called(command, lock):
    """A command without loading TensorFlow again; `reproduction/test_running.py` has processes."""
    status, errors = Forked(run_module, *command).end()
    assert status == EXIT_DONE, errors[-3000:]
    return status


@pytest.mark.parametrize(
    ("flags", "culprit"),
    [
        ([], "table"),
        (["--table=4"], "table"),
        (["--figure=7"], "figure"),
        (["--ablation=masks"], "ablation"),
        (["--all", "--scale=large"], "scale"),
        (["--all", "--seeds=-1"], "seeds"),
        (["--all", "--scale=small"], "cifar10"),
        (["--all", "--scale=small", "--cifar10=absent", "--books=absent"], "absent"),
        (["--all", "--results=damaged.json"], "damaged.json"),
        (["--all", "--results=small.json"], "small.json"),
        (["--all", "--results=empty.json"], "empty.json"),
        (["--all", "--results=page.md"], "page.md"),
        (["--all", "--results=."], "folder"),
        (["--all", "--bert=bert", "--results=bert/x.json"], "x.json"),
        (["--all", "--output_dir=gs://bucket/out"], "gs://bucket/out"),
        (["--all", "--probe=--x='a"], "probe"),
    ],
)
def test_bad_input(flags, culprit, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bert").mkdir()
    (tmp_path / "damaged.json").write_text("{")
    (tmp_path / "small.json").write_text(json.dumps({"schema": 1, "scale": "small"}))
    (tmp_path / "empty.json").write_text(json.dumps({"schema": 1, "scale": "sample"}))
    assert call(*flags) == EXIT_BAD_INPUT
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and culprit in last
    assert not list(tmp_path.rglob("pretrain"))


@pytest.mark.parametrize("scale", scales.SCALES)
def test_a_plan_runs_nothing(scale, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("--all", f"--scale={scale}", "--dry_run") == EXIT_DONE
    lines = capsys.readouterr().out.splitlines()
    plan = [line for line in lines if line.startswith("missing  ")]
    commands = [line for line in lines if line.startswith("         python -m keras_vitbert.")]
    assert len(set(plan)) == len(plan) == len(commands)
    assert lines[-1] == f"0 done, {len(plan)} missing"
    kinds = {line.partition(":")[0]: line for line in lines[2 * len(plan) : -1]}
    assert kinds.keys() == {"pretrain", "finetune", "probe", "figures"}
    if scale == "paper":
        assert re.search(r"pretrain: 35 missing, [\d.]+ days on a v3-128 .* GB$", kinds["pretrain"])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_tiny_table(sources, image_task, tmp_path, monkeypatch, capsys):
    """A random start and a joint model, fine-tuned with two seeds; again without its folders."""
    scale = dataclasses.replace(
        scales.SCALES["sample"](),
        config=f"{sources}/config.py",
        pretraining=(),
        architecture=f"--architecture={sources}/config.py",
        tasks=(
            Task("colours", "images", (f"--data_dir={image_task}",), IMAGE_FLAGS, sweeps=False),
        ),
        few=("colours",),
        prepare=lambda values, folder: {},
    )
    rows = (Row(("random",), Recipe(RAND), {"colours": 50.0}), Row(("joint",), JOINT, {}))
    questions = (("Does it help?", ("joint",), ("random",)),)
    table = Experiment("table3", "Tiny", ("from",), rows, tasks="few", questions=questions)
    monkeypatch.setattr(reproducing, "experiments", lambda given: {"table3": table})
    monkeypatch.setitem(scales.SCALES, "sample", lambda: scale)
    monkeypatch.setattr(running, "called", called)
    folder, results = tmp_path / "out", tmp_path / "kept.json"
    flags = ("--table=3", "--seeds=2", f"--output_dir={folder}", f"--results={results}")
    assert call(*flags) == EXIT_DONE
    content = json.loads(results.read_text())
    assert sorted(content["units"]) == sorted(
        [f"{kind}/colours/{name}-s{seed}" for kind in ("finetune", "probe")
         for name in ("rand", "joint") for seed in range(2)]
        + ["pretrain/joint-s0", "pretrain/joint-s1"]
    )  # fmt: skip
    tuned = content["units"]["finetune/colours/joint-s1"]
    summary = json.loads((folder / "finetune/colours/joint-s1/summary.json").read_text())
    assert tuned["value"] == summary["value"] and tuned["seed"] == 1
    assert str(tmp_path) not in tuned["command"].replace(str(sources), "").replace(
        str(image_task), ""
    )
    page = (tmp_path / "kept.md").read_text()
    assert (tmp_path / "kept-table3.png").read_bytes().startswith(b"\x89PNG")
    assert "## Tiny" in page and "over 2 seeds" in page and "| random | 50.0 (" in page
    # Again, in another folder, to the bit; and where it is not, that is an error.
    capsys.readouterr()
    assert call(*flags, "--repeat=2") == EXIT_DONE
    assert "units have the same numbers to the bit" in capsys.readouterr().out
    again = json.loads((folder / "repeated" / "results.json").read_text())["units"]
    [name, *_] = [name for name in again if name.startswith("finetune/colours/")]
    assert again[name]["value"] == content["units"][name]["value"]
    changed = json.loads(results.read_text())
    changed["units"][name]["value"] += 1e-7
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    flags_of_changed = [*flags[:-1], f"--results={tmp_path / 'changed.json'}"]
    assert call(*flags_of_changed, "--repeat=2") == EXIT_BAD_INPUT
    shown = capsys.readouterr()
    assert f"{name}: value was {changed['units'][name]['value']}" in shown.out
    assert str(tmp_path / "changed.json") in shown.err
    assert call(*flags, "--repeat=5") == EXIT_BAD_INPUT
    assert "repeat" in capsys.readouterr().err
    # A finished row counts without its folder.
    folder.rename(tmp_path / "moved")
    capsys.readouterr()
    assert call(*flags) == EXIT_DONE
    assert "10 done, 0 missing" in capsys.readouterr().out and not folder.exists()
    assert (tmp_path / "kept.md").read_text() == page

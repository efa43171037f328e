"""The command `reproduce`: what it plans and refuses, and a tiny table from start to end."""

import json
import types

import pytest

from keras_vitbert import experiment, reproduce
from keras_vitbert.extras.reproduction import one_run, plan, running
from keras_vitbert.extras.reproduction.plan import Scale, Task
from keras_vitbert.extras.reproduction.tables import JOINT, RAND, Recipe, Row, Table
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DONE, run
from tests.forked import Forked

SHORT = {"batch": 4, "steps": 4, "steps_per_epoch": 2, "evaluation_batch": 4}
TINY = {**SHORT, "image_size": 12, "images.crop_area": (0.5, 1.0)}


def call(*argv):
    return run(reproduce.main, list(map(str, argv)))


def run_once(text):
    return run(one_run.main, [text])


class Process:
    """A process that does not load TensorFlow again; `reproduction/test_running.py` has others."""

    def __init__(self, args, start_new_session):
        self.args, self._process = args, Forked(run_once, args[-1])

    def poll(self):
        status, errors = self._process.end()
        assert status == EXIT_DONE, errors[-3000:]
        return status


def test_values_of_the_config_are_those_of_every_pretraining(monkeypatch):
    seen, missing = [], running.missing
    monkeypatch.setattr(running, "missing", lambda *both: seen.append(both[0]) or missing(*both))
    flags = ("--config.optimizer.name=lion", "--config.steps=400", "--config.dtype=float32")
    assert call("--table=3", "--dry_run", *flags) == EXIT_DONE
    config = experiment("sample", **seen[0]["pretrain/joint-s0"].values)
    assert (config.optimizer.name, config.optimizer.beta_2) == ("lion", 0.99)
    # That of the config itself, where the scale has another; and the scale's own.
    assert (config.steps, config.dtype, config.steps_per_epoch) == (400, "float32", 50)


def test_small_is_a_record(tmp_path):
    assert call("--scale=small", "--table=1", f"--output_dir={tmp_path / 'out'}") == EXIT_BAD_INPUT
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_tiny_table(sources, image_task, tmp_path, monkeypatch):
    """A random start and a joint model, fine-tuned with two seeds; again without its folders."""
    task = Task("colours", "images", {"data_dir": str(image_task)}, TINY, sweeps=False)
    config = f"{sources}/config.py"
    scale = Scale(config, {"inspection.activation_interval": 5}, "", (task,), tables=("table3",))
    rows = [Row(("random",), Recipe(RAND), {"colours": 50.0}), Row(("joint",), JOINT)]
    questions = [("Does it help?", ["joint"], ["random"])]
    table = Table("table3", "Tiny", ("from",), rows, questions)
    monkeypatch.setattr(plan, "tables", lambda: {"table3": table})
    monkeypatch.setattr(plan, "get_scale", lambda *_, **__: scale)
    monkeypatch.setattr(running, "subprocess", types.SimpleNamespace(Popen=Process))
    folder, results = tmp_path / "out", tmp_path / "kept.json"
    flags = ("--table=3", "--seeds=2", f"--output_dir={folder}", f"--results={results}")
    assert call(*flags, "--figure=3") == EXIT_DONE
    content = json.loads(results.read_text())
    runs = [f"{kind}/colours/{name}-s{seed}" for kind in ("finetune", "probe")
            for name in ("rand", "joint") for seed in range(2)]  # fmt: skip
    runs += [f"pretrain/{name}" for name in ("joint-s0", "joint-s1", "vitbert-s0")]
    runs += ["pretrain/vit-s0", "pretrain/bert-s0", "figures/3-vitbert-s0"]
    assert sorted(content["units"]) == sorted(runs)
    tuned = content["units"]["finetune/colours/joint-s1"]
    summary = json.loads((folder / "finetune/colours/joint-s1/summary.json").read_text())
    assert tuned["value"] == summary["value"] and tuned["seed"] == 1
    assert str(folder) not in tuned["command"]
    assert (folder / "figures/3-vitbert-s0/figure3.png").exists()
    page = (tmp_path / "kept.md").read_text()
    assert (tmp_path / "kept-table3.png").exists()
    assert "over 2 seeds" in page and "| random | 50.0 (" in page
    # A finished row counts without its folder.
    folder.rename(tmp_path / "moved")
    assert call(*flags) == EXIT_DONE
    assert not folder.exists()
    assert (tmp_path / "kept.md").read_text() == page

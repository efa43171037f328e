"""Run folders of older versions of the project still open, go on, or are refused by name.

`old_runs/README.md` says how they were made.
"""

import json
import pathlib
import shutil

import pytest

import keras_vitbert
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DONE
from tests.keras_vitbert import tiny_runs, tiny_tasks
from tests.keras_vitbert.whole_runs import validate
from tests.marks import slow, thorough

OLD = pathlib.Path(__file__).parent / "old_runs"


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A copy that may be written to, as the present folder: the paths in it are relative."""
    shutil.copytree(OLD, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return pathlib.Path(".")


def resumed(old, version, *flags):
    return tiny_runs.pretrain(old / "data", version, "--variant=joint", *flags)


@pytest.mark.parametrize("version", ["9af5957", slow("cdba1c8"), slow("9a12f58"), slow("5e30ac8")])
def test_it_opens(old, version):
    trained = keras_vitbert.load(version)
    assert trained.step == 8 and trained.name == "joint"
    assert trained.vocabulary == tiny_runs.VOCABULARY
    found = validate(trained.network, old / "data")
    row = tiny_runs.metrics_rows(version)[1]
    known = {name: float(row[f"val_{name}"]) for name in found}
    assert row["step"] == "8" and found == pytest.approx(known, rel=1e-4)


@pytest.mark.parametrize("version", [slow("cdba1c8"), thorough("9a12f58"), thorough("5e30ac8")])
def test_it_goes_on(old, version, capsys):
    assert resumed(old, version) == EXIT_DONE
    assert f"{version} drew dropout by replica, as older versions do" in capsys.readouterr().err
    summary = tiny_runs.summary_of(version)
    ended = json.loads((old / "ended_now.json").read_text())
    assert summary["resumed_from_step"] == 8 and summary["steps"] == ended["steps"]
    assert summary["validation"] == pytest.approx(ended["validation"], rel=1e-4)
    # But for two steps of dropout it is what the older version came to.
    ended = json.loads((old / version / "ended_with.json").read_text())
    assert summary["validation"] == pytest.approx(ended["validation"], rel=0.05)
    tiny_tasks.write_texts("texts")
    flags = ("--task=tsv", "--data_dir=texts", *tiny_tasks.TEXT_FLAGS)
    assert tiny_tasks.finetune(f"--checkpoint={version}", *flags, "--output_dir=tuned") == EXIT_DONE


def test_one_of_other_random_numbers_is_refused(old, capsys):
    assert resumed(old, "9af5957") == EXIT_BAD_INPUT
    assert (
        "begun by an older version, which drew other random numbers; finish"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("version", ("cdba1c8", "9a12f58"))
def test_one_of_rounded_logits_is_refused(old, capsys, version):
    record = json.loads((old / version / "config.json").read_text())
    record["config"]["dtype"] = "mixed_bfloat16"
    (old / version / "config.json").write_text(json.dumps(record))
    status = resumed(old, version, "--config.dtype=mixed_bfloat16")
    assert status == EXIT_BAD_INPUT
    assert "begun by an older version, which rounded logits to bfloat16" in capsys.readouterr().err

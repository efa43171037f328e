"""`python -m keras_vitbert.figures` on folders of runs that are made by hand."""

import json
import os
import xml.etree.ElementTree as ElementTree

import pytest

from keras_vitbert import figures
from keras_vitbert.extras.paper_figures.runs import PretrainedRun
from keras_vitbert.runs.provenance import run_provenance
from pipelines import command_line
from pipelines.command_line import EXIT_DONE
from tests.keras_vitbert.extras.paper_figures.hand_made_runs import make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of three runs made by hand, two of which have the same name."""
    folder = tmp_path_factory.mktemp("made")
    make_run(folder / "a" / "run", "vitbert")
    make_run(folder / "b" / "run", "vitbert_no_kd")
    make_run(folder / "joint", "joint", "sum")
    return folder


def draw(*argv):
    return command_line.run(figures.main, list(map(str, argv)))


def test_files_are_named_by_figure_and_run_and_know_their_runs(made, tmp_path, capsys):
    runs = [f"--run={made / name}" for name in ("a/run", "joint", "b/run")]
    assert draw(*runs, f"--output={tmp_path}", "--figures=4,3", "--blocks=1") == EXIT_DONE
    expected = [
        f"figure{number}-{name}.{kind}"
        for number in (3, 4)
        for name in ("a-run", "b-run")
        for kind in ("png", "svg")
    ]
    assert sorted(os.listdir(tmp_path)) == sorted(expected)
    wanted = {"a-run": run_provenance(PretrainedRun(str(made / "a" / "run")).record, {})}
    svg = ElementTree.parse(tmp_path / "figure3-a-run.svg")
    [description] = svg.iter("{http://purl.org/dc/elements/1.1/}description")
    assert json.loads(description.text) == wanted
    assert "joint: no figure 3" in capsys.readouterr().err

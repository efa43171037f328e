"""`python -m keras_vitbert.figures` on folders of runs that are made by hand."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from keras_vitbert import figures
from keras_vitbert.extras.paper_figures.runs import PretrainedRun
from keras_vitbert.runs.provenance import run_provenance
from keras_vitbert.trained.sharing import write_weights
from pipelines import command_line
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DONE
from tests.keras_vitbert.extras.paper_figures.hand_made_runs import make_run
from tests.keras_vitbert.tiny_runs import content_of, files_below
from tests.said import without_status


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


@pytest.fixture
def refused(tmp_path, capsys):
    """`refused(*flags, culprit=...)`: status 2, one line, and nothing written."""

    def refused(*flags, culprit, lines=1):
        output = tmp_path / "output"
        assert draw(f"--output={output}", *flags) == EXIT_BAD_INPUT
        out, err = capsys.readouterr()
        assert not out and len(without_status(err)) == lines and "Traceback" not in err
        assert err.splitlines()[-1].startswith("error: ") and culprit in err.splitlines()[-1]
        assert not (output.is_dir() and files_below(output))

    return refused


# --- files -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_runs_without_a_checkpoint(made, tmp_path, capsys):
    runs = [f"--run={made / name}" for name in ("a/run", "joint", "b/run")]
    assert draw(*runs, f"--output={tmp_path}", "--figures=5,3,4", "--blocks=1") == EXIT_DONE
    out, err = capsys.readouterr()
    expected = [
        f"figure{number}-{name}.{kind}"
        for number in (3, 4, 5)
        for name in ("a-run", "b-run")
        for kind in ("png", "svg")
    ]
    assert out.split() == [str(tmp_path / name) for name in expected]
    assert sorted(os.listdir(tmp_path)) == sorted(expected)
    wanted = {"a-run": run_provenance(PretrainedRun(str(made / "a" / "run")).record, {})}
    with Image.open(tmp_path / "figure3-a-run.png") as picture:
        assert json.loads(picture.info["Description"]) == wanted
    svg = ElementTree.parse(tmp_path / "figure3-a-run.svg")
    [description] = svg.iter("{http://purl.org/dc/elements/1.1/}description")
    assert json.loads(description.text) == wanted
    assert err.splitlines() == [
        "joint: no figure 3: it has neither stored values nor a checkpoint yet",
        "joint: no figure 4: variant joint with merge.name=sum has no masks",
        "joint: no figure 5: variant joint with merge.name=sum has no masks",
    ]
    for name in expected[::2]:
        with Image.open(tmp_path / name) as image:
            assert image.width == 990 and image.height > 500  # 3.3 inches


def test_the_same_values_give_the_same_files(made, tmp_path, monkeypatch):
    """Whatever else matplotlib has been used for."""
    import matplotlib

    flags = [f"--run={made / 'a' / 'run'}", "--figures=3,4"]
    assert draw(*flags, f"--output={tmp_path / 'first'}") == EXIT_DONE
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 20)
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "path")
    assert draw(*flags, f"--output={tmp_path / 'second'}") == EXIT_DONE
    first, second = (
        {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}
        for name in ("first", "second")
    )
    assert set(first) == {f"figure{n}.{kind}" for n in (3, 4) for kind in ("png", "svg")}
    assert first == second
    assert matplotlib.rcParams["font.size"] == 20  # and leaves it as it was


# --- bad calls ---------------------------------------------------------------------------------


def test_nothing_to_draw(refused, made):
    refused(f"--run={made / 'joint'}", "--figures=4,5", culprit="joint", lines=3)


def test_damaged_values(refused, made, tmp_path):
    """No figure is written: neither those before nor those that need other files."""
    shutil.copytree(made / "a" / "run", tmp_path / "run")
    (tmp_path / "run" / "inspection" / "masks-00000007.npz").write_bytes(b"PK")
    flags = f"--run={tmp_path / 'run'}", "--figures=3,4,5", "--format=png"
    refused(*flags, culprit="masks-00000007.npz")


def test_help_needs_neither_tensorflow_nor_matplotlib():
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['matplotlib'] = None;"
        "from keras_vitbert import figures; from pipelines import command_line;"
        "command_line.run(figures.main, ['--help'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--figures" in done.stdout and "--run" in done.stdout and not done.stderr


# --- runs with a checkpoint --------------------------------------------------------------------


@pytest.mark.slow
def test_all_figures_of_runs_side_by_side(run_with_checkpoint, tmp_path, capsys):
    """An older one, and two that have one modality each."""
    names = ["vitbert_no_kd", "vit", "bert"]
    flags = [f"--run={run_with_checkpoint(name)}" for name in names]
    flags += ["--format=svg", "--figures=3,4,5,6", "--examples=2"]
    assert draw(*flags, f"--output={tmp_path}") == EXIT_DONE
    own = [f"figure{number}-vitbert_no_kd.svg" for number in (3, 4, 5)]
    assert sorted(os.listdir(tmp_path)) == [*own, "figure6.svg"]
    lines = without_status(capsys.readouterr().err)
    for name, lacking in zip(names[1:], (lines[::2], lines[1::2]), strict=True):
        missing = [f"{name}: no figure {number}" for number in (3, 4, 5)]
        assert [":".join(line.split(":")[:2]) for line in lacking] == missing
    svg = (tmp_path / "figure6.svg").read_text()
    assert svg.count(">cat ") + svg.count(">dog ") + svg.count(">tench ") == 2 * 2 * 3
    for name in names:
        assert svg.count(f">{name}<") == (3 if name == names[0] else 2 if name == names[1] else 1)


def test_examples_that_are_gone(older_run, refused, sources, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(older_run.path, path)
    record = content_of(path / "config.json")
    record["experiment"]["data"]["images"]["validation"] = "gone-*"
    (path / "config.json").write_text(json.dumps(record))
    refused(f"--run={path}", "--figures=6", culprit="gone-*", lines=2)
    run = PretrainedRun(str(path), images=f"{sources}/images-validation-*")
    assert run.data.image_validation.records.count == 7


@pytest.mark.slow
def test_weights_alone_lack_masks(older_run, sources, tmp_path, capsys):
    """As `convert --format=run` writes them, without paths of data."""
    run, output = tmp_path / "mine", tmp_path / "output"
    run.mkdir()
    write_weights(older_run.trained, str(run), "bfloat16")
    flags = [f"--run={run}", "--figures=3,4,5,6", "--format=svg", "--examples=1"]
    flags += [f"--images={sources}/images-validation-*", f"--texts={sources}/text-validation-*"]
    assert draw(*flags, f"--output={output}") == EXIT_DONE
    assert sorted(os.listdir(output)) == ["figure3.svg", "figure6.svg"]
    lines = without_status(capsys.readouterr().err)
    assert [line[:17] for line in lines] == [f"mine: no figure {number}" for number in (4, 5)]


@pytest.mark.slow
def test_a_model_that_sees_something_else(older_run, run_with_checkpoint, tmp_path, capsys):
    path = tmp_path / "other"
    shutil.copytree(run_with_checkpoint("vit"), path)
    record = content_of(path / "config.json")
    record["experiment"]["model"]["image_size"] = 12
    (path / "config.json").write_text(json.dumps(record))
    flags = [
        f"--run={older_run.path}",
        f"--run={path}",
        "--figures=6",
        "--format=png",
        "--examples=1",
    ]
    assert draw(*flags, f"--output={tmp_path}") == EXIT_DONE
    assert "other: left out of the images of figure 6" in capsys.readouterr().err

"""`python -m keras_vitbert.figures` on folders of runs that are made by hand."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_vitbert import figures
from keras_vitbert.configs.variants import VARIANTS, apply_variant
from keras_vitbert.inspection.mask_values import MaskValues
from keras_vitbert.inspection.value_files import write_values
from keras_vitbert.model.pretraining_network import image_inputs, text_inputs
from keras_vitbert.model.shared_weights import KINDS
from keras_vitbert.paper_figures.drawing import qualitative_picture
from keras_vitbert.paper_figures.finished_runs import FinishedRun, open_runs
from keras_vitbert.paper_figures.qualitative_values import image_examples, text_examples
from keras_vitbert.pretraining.run import build_trainer
from keras_vitbert.runs import checkpoints
from keras_vitbert.runs.run_folder import RunFolder
from pipelines import command_line
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DONE
from tests.keras_vitbert.tiny_runs import CLASS_NAMES, VOCABULARY, config_of, files_below

BLOCKS, UNITS = 2, 16


def make_run(path, variant, merge="mask"):
    """The folder of a run that has no checkpoint: a record, and stored values if it has masks."""
    path.mkdir(parents=True)
    config = {"merge": {"name": merge}, "model": {"num_layers": BLOCKS}}
    record = {"variant": variant, "vocabulary_sha256": None, "records": {}, "config": config}
    (path / "config.json").write_text(json.dumps(record))
    folder, random = RunFolder(str(path)), np.random.default_rng(5)
    if merge != "sum":
        for step in (0, 4, 9):
            values = random.random((2, BLOCKS, UNITS)).astype(np.float32)
            write_values(folder, "activations", step, image=values[0], text=values[1])
        for step in (3, 7):
            blocks = ["block_0", "block_1"]
            entries = np.full((2, len(KINDS)), 100)
            cleared = random.integers(0, 90, (2, len(KINDS)))
            kept = {name: {"query": random.random((8, 8)) < 0.5} for name in blocks}
            MaskValues(step, blocks, entries, cleared, kept).write(folder)
    return path


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
    """`refused(*flags, message=...)`: status 2, one line, and nothing written."""

    def refused(*flags, message, lines=1):
        output = tmp_path / "output"
        assert draw(f"--output={output}", *flags) == EXIT_BAD_INPUT
        out, err = capsys.readouterr()
        assert not out and len(err.splitlines()) == lines and "Traceback" not in err
        assert re.search(message, err.splitlines()[-1]), err
        assert not (output.is_dir() and files_below(output))

    return refused


# --- files -------------------------------------------------------------------------------------


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
    assert err.splitlines() == [
        "joint: no figure 3: it has neither stored values nor a checkpoint yet",
        "joint: no figure 4: its variant joint has no masks",
        "joint: no figure 5: its variant joint has no masks",
    ]
    for name in expected[::2]:
        with Image.open(tmp_path / name) as image:
            assert image.width == 990 and image.height > 500  # 3.3 inches
            assert set(image.info) <= {"dpi"}
    svg = (tmp_path / "figure3-a-run.svg").read_text()
    for text in (
        "run: a-run",
        "step 0",
        "step 4",
        "step 9",
        "block 1",
        "mean absolute activation / scale",
    ):
        assert re.search(f"<text[^>]*>{text}</text>", svg), text
    assert ">block 0<" in svg  # in the legend of the curves
    assert "dc:date" not in svg


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


def test_names_of_runs(made, tmp_path):
    paths = [str(made / name) for name in ("a/run", "b/run")]
    assert list(open_runs(paths)) == ["a-run", "b-run"]
    assert list(open_runs(paths[:1])) == ["run"]
    mixed = [*paths, str(made / "joint")]
    assert list(open_runs(mixed)) == ["a-run", "b-run", "joint"]
    strange = [str(make_run(tmp_path / name, "joint", "sum")) for name in ("a run, $1", "a-run")]
    assert list(open_runs([f"{strange[0]}/"])) == ["a_run___1"]
    assert list(open_runs([*paths, strange[1]])) == ["a-run-1", "b-run", "a-run-3"]


# --- bad calls ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--run is missing; give the folder of a run"),
        (["--run=RUN", "--figures=3,7"], "--figures=3,7: '7' is none of 3, 4, 5, 6; give"),
        (["--run=RUN", "--figures="], "--figures=: '' is none of"),
        (["--run=RUN", "--format=pdf"], "--format=pdf: 'pdf' is none of png, svg; give"),
        (["--run=RUN", "--examples=0"], "--examples=0|examples.*0.*lower"),
        (
            ["--run=RUN", "--blocks=5"],
            "--blocks=5: must be numbers from 0 to 1 such as 0,1, or all",
        ),
        (["--run=RUN/nowhere"], "--run=.*/nowhere: holds no run of keras_vitbert.pretrain; give"),
        (["--run=RUN", "--run=RUN/"], "--run=.*run/: is given twice; leave one out"),
        (["--run=RUN", "--ouput=x"], "ouput.*--help lists the flags"),
    ],
)
def test_bad_flags(refused, made, flags, message):
    refused(*(flag.replace("RUN", str(made / "a" / "run")) for flag in flags), message=message)


def test_no_output(made, capsys):
    assert draw(f"--run={made / 'joint'}") == EXIT_BAD_INPUT
    assert "--output is missing; give the folder of what to write" in capsys.readouterr().err


def test_an_output_that_is_no_folder(made, tmp_path, capsys):
    (tmp_path / "file").write_text("here")
    assert draw(f"--run={made / 'a' / 'run'}", f"--output={tmp_path / 'file'}") == EXIT_BAD_INPUT
    assert re.search(
        "--output=.*file: cannot be written to .*; give another", capsys.readouterr().err
    )


def test_nothing_to_draw(refused, made):
    message = "nothing can be drawn: joint: no figure 4: its variant joint has no masks; joint: no"
    refused(f"--run={made / 'joint'}", "--figures=4,5", message=message, lines=3)


def test_damaged_values(refused, made, tmp_path):
    shutil.copytree(made / "a" / "run", tmp_path / "run")
    (tmp_path / "run" / "inspection" / "masks-00000007.npz").write_bytes(b"PK")
    message = r"masks-00000007\.npz is damaged .*; remove it"
    refused(f"--run={tmp_path / 'run'}", "--figures=4", message=message)


def test_without_matplotlib(refused, made, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = r"figures need matplotlib; install it by pip install 'keras-vitbert\[figures\]'"
    refused(f"--run={made / 'a' / 'run'}", message=message)


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


@pytest.fixture(scope="module")
def make_checkpoint(sources, tmp_path_factory):
    """`make_checkpoint(variant) -> (path, masks by path)`: a run that looked at nothing.

    Its weights are those that training begins with, its masks are random.
    """
    made = {}

    def make(name):
        if name not in made:
            variant, random = VARIANTS[name], np.random.default_rng(6)
            config = apply_variant(config_of(sources), variant)
            folder = RunFolder(str(tmp_path_factory.mktemp("runs") / name))
            trainer = build_trainer(config, variant, tf.distribute.get_strategy())
            masks = {}
            if variant.masks:
                for variable, mask in zip(trainer.shared, trainer.merge.masks, strict=True):
                    masks[variable.path] = random.random(mask.shape) < 0.7
                    mask.assign(masks[variable.path])
            words = VOCABULARY if variant.text else None
            names = CLASS_NAMES if variant.images else None
            folder.begin({"variant": name}, config, words, {}, classes=names)
            trainer.step = 10
            checkpoints.save(folder.checkpoints, trainer, keep=1)
            made[name] = folder.path, masks
        return made[name]

    return make


@pytest.fixture(scope="module")
def older(make_checkpoint):
    return FinishedRun(make_checkpoint("vitbert_no_kd")[0])


def test_masks_come_from_the_checkpoint(make_checkpoint, older):
    path, masks = make_checkpoint("vitbert_no_kd")
    (found,) = older.masks()
    assert found.step == 10 and found.entries.sum() == sum(mask.size for mask in masks.values())
    assert found.cleared.sum() == sum((~mask).sum() for mask in masks.values())
    kept = masks["block_0/self_attention_layer/key/kernel"]
    np.testing.assert_array_equal(found.kept["block_0"]["key"], kept.reshape(8, 8))
    assert not older.has_stored_masks


def test_sparsity_comes_from_the_log(make_checkpoint, tmp_path):
    path = shutil.copytree(make_checkpoint("vitbert_no_kd")[0], tmp_path / "run")
    names = ["mask_sparsity", "mask_sparsity/block_0", "mask_sparsity/final_norm"]
    rows = [
        (2, 0, 0, 0),
        (4, 0.1, 0.2, 0.0),
        (6, 0.1, 0.2, 0.0),
        (8, 0.3, 0.4, 0.25),
        (12, 1, 1, 1),
    ]
    text = "\n".join(",".join(map(str, row)) for row in [["step", *names], *rows])
    (path / "metrics.csv").write_text(text + "\n")
    assert FinishedRun(str(path)).logged_sparsity() == {
        4: {"block_0": 0.2, "final_norm": 0.0},
        8: {"block_0": 0.4, "final_norm": 0.25},
    }
    (path / "metrics.csv").unlink()
    assert FinishedRun(str(path)).logged_sparsity() == {}


def test_activations_are_measured(older):
    """Against NumPy means over all validation examples: there are fewer than would be taken."""
    ((step, found),) = older.activations().items()
    backbone, data = older.network.backbone, older.data
    assert step == 10
    special = [VOCABULARY.index(token) for token in ("[PAD]", "[CLS]", "[SEP]", "[MASK]")]
    for name, source, inputs, is_counted, means in (
        (
            "image",
            data.image_validation,
            ("images",),
            lambda batch: np.tile(np.arange(5) > 0, (7, 1)),  # class token and patches
            found[0],
        ),
        (
            "text",
            data.text_validation,
            ("token_ids", "segment_ids", "padding_mask"),
            lambda batch: ~np.isin(batch["token_ids"].numpy(), special),
            found[1],
        ),
    ):
        (batch,) = source.validation().batch(100)
        batch |= image_inputs(batch) if name == "image" else {}
        model = keras.Model(
            {key: backbone.input[key] for key in inputs},
            backbone.block_outputs[f"{name}_block_0"],
        )
        values = keras.ops.convert_to_numpy(model({key: batch[key] for key in inputs}))
        expected = np.abs(values[is_counted(batch)].astype(np.float64)).mean(axis=0)
        np.testing.assert_allclose(means[0], expected, rtol=1e-4)


def test_examples_are_what_the_network_says(older):
    networks = {"run": older.network}
    source = older.data.image_validation
    found = image_examples(source, older.classes, networks, 3)
    assert [example.number for example in found] == [0, 2, 4]
    for example in found:
        (row,) = list(source.validation(example.number, example.number + 1))
        inputs = image_inputs({"images": row["images"][None]})
        logits = keras.ops.convert_to_numpy(older.network(inputs)["image_logits"])[0]
        order = np.argsort(-logits)
        assert example.label == CLASS_NAMES[int(row["image_labels"])]
        assert example.answers["run"].names == [CLASS_NAMES[place] for place in order]
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(example.answers["run"].probabilities, expected[order], rtol=1e-5)

    source = older.data.text_validation
    found = text_examples(source, VOCABULARY, networks, 2)
    assert sum(len(example.truth) for example in found) > 2
    for example in found:
        (row,) = list(source.validation(example.number, example.number + 1))
        inputs = {name: value[None] for name, value in text_inputs(row).items()}
        logits = keras.ops.convert_to_numpy(older.network(inputs)["mlm_logits"])[0]
        weights, positions = row["masked_weights"].numpy(), row["masked_positions"].numpy()
        for gap, place in enumerate(np.argsort(positions[weights > 0])):
            assert example.truth[gap] == VOCABULARY[row["masked_ids"].numpy()[place]]
            answers = example.answers["run"][gap].names
            assert answers[0] == VOCABULARY[np.argmax(logits[place][: len(VOCABULARY)])]


def test_all_figures_of_runs_side_by_side(make_checkpoint, tmp_path, capsys):
    """An older one, and two that have one modality each."""
    names = ["vitbert_no_kd", "vit", "bert"]
    flags = [f"--run={make_checkpoint(name)[0]}" for name in names]
    flags += ["--format=svg", "--figures=3,4,5,6", "--examples=2"]
    assert draw(*flags, f"--output={tmp_path}") == EXIT_DONE
    own = [f"figure{number}-vitbert_no_kd.svg" for number in (3, 4, 5)]
    assert sorted(os.listdir(tmp_path)) == [*own, "figure6.svg"]
    lines = capsys.readouterr().err.splitlines()
    for name, lacking in zip(names[1:], (lines[::2], lines[1::2]), strict=True):
        assert lacking == [
            f"{name}: no figure 3: its variant {name} has one modality only",
            f"{name}: no figure 4: its variant {name} has no masks",
            f"{name}: no figure 5: its variant {name} has no masks",
        ]
    svg = (tmp_path / "figure6.svg").read_text()
    assert svg.count(">cat ") + svg.count(">dog ") + svg.count(">tench ") == 2 * 2 * 3
    for name in names:
        assert svg.count(f">{name}<") == (3 if name == names[0] else 2 if name == names[1] else 1)


def test_examples_that_are_gone(older, refused, sources, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(older.path, path)
    record = json.loads((path / "config.json").read_text())
    record["config"]["data"]["images"]["validation"] = "gone-*"
    (path / "config.json").write_text(json.dumps(record))
    message = r"run: no figure 6: .*no file matches gone-\*.*; name them by --images and --texts"
    refused(f"--run={path}", "--figures=6", message=message, lines=2)
    run = FinishedRun(str(path), images=f"{sources}/images-validation-*")
    assert run.data.image_validation.records.count == 7


def test_a_model_that_sees_something_else(older, make_checkpoint, tmp_path, capsys):
    path = tmp_path / "other"
    shutil.copytree(make_checkpoint("vit")[0], path)
    record = json.loads((path / "config.json").read_text())
    record["config"]["model"]["image_size"] = 12
    (path / "config.json").write_text(json.dumps(record))
    flags = [f"--run={older.path}", f"--run={path}", "--figures=6", "--format=png", "--examples=1"]
    assert draw(*flags, f"--output={tmp_path}") == EXIT_DONE
    assert (
        "other: left out of the images of figure 6: vitbert_no_kd takes others"
        in capsys.readouterr().err
    )


def test_a_picture_for_tensorboard(older):
    picture = qualitative_picture(older.network, older.data, "run", examples=2, dots_per_inch=50)
    assert picture.dtype == np.uint8 and picture.shape[1:] == (345, 3)
    assert len(np.unique(picture)) > 20

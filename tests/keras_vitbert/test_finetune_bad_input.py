"""Bad calls of `finetune`: exit status 2, one line that names the culprit, nothing written."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from pipelines.command_line import EXIT_BAD_INPUT
from tests.keras_vitbert.tiny_runs import content_of, files_below
from tests.keras_vitbert.tiny_tasks import IMAGE_FLAGS, TEXT_FLAGS, finetune
from tests.marks import slow

SAVED = pathlib.Path(__file__).parent / "trained" / "saved"


@pytest.fixture
def refused(finished, tmp_path, capsys):
    """`refused(*flags, culprit=...)`: the call is refused, and leaves no folder."""

    def refused(*flags, culprit, untouched=True):
        output_dir = tmp_path / "run"
        defaults = [f"--checkpoint={finished('joint')}", f"--output_dir={output_dir}"]
        capsys.readouterr()
        assert finetune(*defaults, *flags) == EXIT_BAD_INPUT
        out, err = capsys.readouterr()
        [error] = [line for line in err.splitlines() if line.startswith("error: ")]
        assert err.splitlines()[-1] == error and culprit in error
        assert "Traceback" not in out + err
        if untouched:
            assert not output_dir.exists() and not out

    return refused


@pytest.fixture
def images(image_task, tmp_path):
    """A copy of the folder of images, to be spoilt, and the flags for it."""
    shutil.copytree(image_task, tmp_path / "images")
    return tmp_path / "images", [
        "--task=images",
        f"--data_dir={tmp_path / 'images'}",
        *IMAGE_FLAGS,
    ]


@pytest.fixture
def texts(text_task, tmp_path):
    """The same of TSV files."""
    shutil.copytree(text_task, tmp_path / "texts")
    return tmp_path / "texts", ["--task=texts", f"--data_dir={tmp_path / 'texts'}", *TEXT_FLAGS]


def edit(path, change):
    lines = path.read_text().splitlines()
    path.write_text("\n".join(change(lines)) + "\n")


def test_classes_of_images(refused, images):
    folder, flags = images
    (folder / "validation" / "red").rename(folder / "validation" / "pink")
    refused(*flags, culprit="'pink'")
    shutil.rmtree(folder / "validation" / "pink")
    for name in ("red", "blue"):
        shutil.rmtree(folder / "train" / name)
    shutil.rmtree(folder / "validation" / "blue")
    refused(*flags, culprit="'green'")


def test_a_dry_run_refuses_what_the_run_would(refused, images):
    folder, flags = images
    refused(*flags, "--dry_run", "--config.head=deit", culprit="deit")
    [damaged] = (folder / "validation" / "red").glob("002.jpg")
    damaged.write_text("no image")
    flags += ["--dry_run"]
    refused(*flags, culprit=str(damaged))
    assert not (folder.parent / "run").exists()


def test_paths_that_tensorflow_cannot_read(refused):
    refused("--train=http://localhost:9/t.csv", culprit="localhost:9/t.csv")


def test_a_file_of_predictions_that_is_a_folder(refused, texts, tmp_path):
    for path in (tmp_path, f"{tmp_path}/new/"):
        refused(*texts[1], f"--predictions={path}", culprit=str(path))


def test_predictions_do_not_overwrite_what_they_come_from(refused, texts, tmp_path):
    folder, flags = texts
    run, checkpoint = tmp_path / "run", tmp_path / "checkpoint"
    shutil.copytree(SAVED / "fine_tuned_texts", checkpoint)
    single = ["--task=texts", f"--train={folder / 'train.tsv'}", *TEXT_FLAGS]
    evaluation = ["--evaluate_only", "--output_dir=", f"--data_dir={folder}"]
    before = files_below(folder), files_below(checkpoint)
    for culprit, output, given in (
        (folder / "train.tsv", folder / "train.tsv", single),
        (folder / "dev.tsv", folder / "dev.tsv", flags),
        (run, run / "results.csv", flags),
        (checkpoint, checkpoint / "vocabulary.txt", [*flags, f"--checkpoint={checkpoint}"]),
        (checkpoint, checkpoint / "new.csv", [*evaluation, f"--checkpoint={checkpoint}"]),
    ):
        refused(*given, f"--predictions={output}", culprit=str(culprit))
    assert (files_below(folder), files_below(checkpoint)) == before


def test_architectures(refused, finished, texts, tmp_path):
    from keras_vitbert.configs import sample

    refused_here = ["--checkpoint=rand", *texts[1]]
    own = tmp_path / "own.py"
    for name, content, culprit in (
        ("none", None, "none"),
        (own, "def get_config():\n    return {}\n", "own.py"),
        (
            own,
            f"from {sample.__name__} import get_config as sample\n"
            "def get_config():\n    return sample().with_values({'model.num_heads': 7})\n",
            "model.hidden_dim",
        ),
    ):
        if content:
            own.write_text(content)
        refused(*refused_here, f"--architecture={name}", culprit=culprit)


def test_a_place_that_cannot_be_reached(refused, texts):
    refused(*texts[1], "--checkpoint=foo://bucket/run", culprit="foo://bucket/run")


def test_a_file_that_is_gone(refused, images):
    folder, flags = images
    (folder / "validation" / "red" / "zzz.jpg").symlink_to(folder / "nowhere.jpg")
    refused(*flags, culprit="red/zzz.jpg", untouched=False)


@pytest.mark.parametrize("split", [slow("train"), "validation"])
def test_an_image_that_does_not_decode(refused, images, tmp_path, split, monkeypatch):
    folder, flags = images
    monkeypatch.setattr("keras_vitbert.fine_tuning.recommended._LOOKED_AT", 1)  # of the others
    path = folder / split / "red" / "002.jpg"
    path.write_bytes(path.read_bytes()[:200])
    refused(*flags, culprit=str(path), untouched=False)
    # Of validation it is known before anything is trained.
    assert (tmp_path / "run" / "trials").exists() == (split == "train")


def test_an_image_among_the_first_that_does_not_decode(refused, images, tmp_path):
    folder, flags = images
    path = folder / "train" / "red" / "002.jpg"
    path.write_bytes(path.read_bytes()[:200])
    refused(*flags, culprit=str(path))
    assert not (tmp_path / "run").exists()


def test_fewer_images_than_a_step_takes(refused, images):
    refused(*images[1], "--config.batch=64", culprit="batch")


def test_a_part_that_is_nothing(refused, images):
    flags = ["--sweep", "--config.selection_part=0.001"]
    refused(*images[1], *flags, culprit="selection_part")


def test_lines_of_tsv_files(refused, texts):
    folder, flags = texts
    edit(folder / "dev.tsv", lambda lines: [*lines[:4], lines[4] + "\tmore", *lines[5:]])
    refused(*flags, culprit="dev.tsv, line 5")


def test_columns_of_tsv_files(refused, texts):
    folder, flags = texts
    column = "--config.data.label_column=kind"
    refused(*flags, column, culprit="'kind'")
    edit(folder / "train.tsv", lambda lines: [lines[0].replace("label", "mark"), *lines[1:]])
    refused(*flags, culprit="train.tsv")


def test_classes_of_tsv_files(refused, texts):
    folder, flags = texts
    edit(folder / "dev.tsv", lambda lines: [*lines, "99\tword1\tword2\tmaybe"])
    refused(*flags, culprit="'maybe'")
    edit(folder / "train.tsv", lambda lines: [lines[0], *(x for x in lines if x.endswith("\tno"))])
    edit(folder / "dev.tsv", lambda lines: [lines[0], *(x for x in lines if x.endswith("\tno"))])
    refused(*flags, culprit="'no'")


def test_another_vocabulary(refused, texts, tmp_path):
    from pipelines.text.wordpiece import SPECIAL_TOKENS

    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL_TOKENS, "word"]) + "\n")
    flags = [*texts[1], f"--vocabulary={tmp_path / 'vocab.txt'}"]
    refused(*flags, culprit="vocab")


def test_another_case_than_that_of_the_checkpoint(refused, texts):
    refused(*texts[1], "--config.data.case=cased", culprit="data.case")


def test_a_checkpoint_of_another_shape(refused, finished, texts, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished("joint"), copy)
    record = content_of(copy / "config.json")
    record["experiment"]["model"]["hidden_dim"] = 6
    (copy / "config.json").write_text(json.dumps(record))
    refused(*texts[1], f"--checkpoint={copy}", culprit=str(copy))


def test_bad_flags_are_answered_without_tensorflow(tmp_path):
    code = (
        "import sys; from keras_vitbert import finetune; from pipelines import command_line;"
        "status = command_line.run(finetune.main, ['--task=x']);"
        "assert 'tensorflow' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == EXIT_BAD_INPUT
    assert len(done.stderr.splitlines()) == 1 and "task" in done.stderr

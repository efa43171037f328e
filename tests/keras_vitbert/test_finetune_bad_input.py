"""Bad calls of `finetune` that its data or its checkpoint show: refused, and nothing written.

What flags and files alone show is in `tests/bad_input`.
"""

import pathlib
import shutil
import subprocess
import sys

import pytest

from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DONE
from tests.keras_vitbert.bad_calls import assert_refused
from tests.keras_vitbert.tiny_tasks import IMAGE_FLAGS, TEXT_FLAGS, finetune

SAVED = pathlib.Path(__file__).parent / "trained" / "saved"


@pytest.fixture
def refused(tmp_path, capsys):
    """`refused(*flags, culprit=...)`: the call is refused, and leaves no folder."""

    def refused(*flags, culprit, untouched=True):
        output_dir = tmp_path / "run"
        defaults = [f"--checkpoint={SAVED / 'run'}", f"--output_dir={output_dir}"]
        assert_refused(lambda: finetune(*defaults, *flags), capsys, output_dir, culprit, untouched)
        assert not (untouched and output_dir.exists())

    return refused


@pytest.fixture
def images(image_task, tmp_path):
    """A copy of the folder of images, to be spoilt, and the flags for it."""
    folder = shutil.copytree(image_task, tmp_path / "images")
    return folder, ["--task=images", f"--data_dir={folder}", *IMAGE_FLAGS]


@pytest.fixture
def texts(text_task, tmp_path):
    """The same of TSV files."""
    folder = shutil.copytree(text_task, tmp_path / "texts")
    return folder, ["--task=texts", f"--data_dir={folder}", *TEXT_FLAGS]


def test_chosen_values_are_told_as_flags(images, capsys):
    flags = [f"--checkpoint={SAVED / 'run'}", *images[1][:2], "--dry_run"]
    assert finetune(*flags) == EXIT_DONE
    told = "".join(capsys.readouterr())
    assert all(f" {field}=" in told for field in ("image_size", "images.crop_area", "steps"))


def test_bad_data_are_refused_before_tensorflow_is_loaded(tmp_path):
    """That takes many seconds, and so does a checkpoint."""
    script = """
import sys
from keras_vitbert import finetune
from pipelines.command_line import run
status = run(finetune.main, sys.argv[1:])
assert not {"tensorflow", "keras"} & set(sys.modules)
sys.exit(status)
"""
    (tmp_path / "labels.csv").write_text("text,label\none,a\ntwo,a\n")
    (tmp_path / "unlabelled.csv").write_text("text,label\none,a\ntwo,\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "classes" / "a\nb").mkdir(parents=True)
    (tmp_path / "classes" / "a\nb" / "1.jpg").write_text("")
    for name in ("labels.csv", "unlabelled.csv", "empty.csv", "classes"):
        flags = [f"--checkpoint={SAVED / 'run'}", f"--data_dir={tmp_path / name}"]
        command = [sys.executable, "-c", script, *flags, f"--output_dir={tmp_path / 'run'}"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == EXIT_BAD_INPUT and len(done.stderr.splitlines()) == 1
        assert name in done.stderr and not (tmp_path / "run").exists()


def test_classes_of_images(refused, images):
    folder, flags = images
    refused(*flags, "--config.batch=64", culprit="batch")  # more than there are
    (folder / "validation" / "red").rename(folder / "validation" / "pink")
    refused(*flags, culprit="'pink'")
    for name in ("train/red", "train/blue", "validation/pink", "validation/blue"):
        shutil.rmtree(folder / name)
    refused(*flags, culprit="'green'")


def test_classes_of_tsv_files(refused, texts):
    folder, flags = texts
    refused(*flags, "--config.data.label_column=kind", culprit="'kind'")
    with open(folder / "dev.tsv", "a") as file:
        file.write("99\tword1\tword2\tmaybe\n")
    refused(*flags, culprit="'maybe'")


def test_an_image_that_does_not_decode(refused, images, tmp_path):
    """Of validation it is known before anything is trained."""
    folder, flags = images
    file = folder / "validation" / "red" / "002.jpg"
    file.write_bytes(file.read_bytes()[:200])
    refused(*flags, culprit=str(file), untouched=False)
    assert not (tmp_path / "run" / "trials").exists()

"""Bad calls of `finetune` that its data or its checkpoint show: refused, and nothing written.

What flags and files alone show is in `tests/bad_input`.
"""

import pathlib
import shutil

import pytest

from tests.keras_vitbert.bad_calls import assert_refused
from tests.keras_vitbert.tiny_runs import files_below
from tests.keras_vitbert.tiny_tasks import IMAGE_FLAGS, TEXT_FLAGS, finetune

SAVED = pathlib.Path(__file__).parent / "trained" / "saved"


@pytest.fixture
def refused(finished, tmp_path, capsys):
    """`refused(*flags, culprit=...)`: the call is refused, and leaves no folder."""

    def refused(*flags, culprit, untouched=True):
        output_dir = tmp_path / "run"
        defaults = [f"--checkpoint={finished('joint')}", f"--output_dir={output_dir}"]
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


def cut(path):
    path.write_bytes(path.read_bytes()[:200])
    return str(path)


def test_classes_of_images(refused, images):
    folder, flags = images
    (folder / "validation" / "red").rename(folder / "validation" / "pink")
    refused(*flags, culprit="'pink'")
    for name in ("train/red", "train/blue", "validation/pink", "validation/blue"):
        shutil.rmtree(folder / name)
    refused(*flags, culprit="'green'")


def test_classes_of_tsv_files(refused, texts):
    folder, flags = texts
    with open(folder / "dev.tsv", "a") as file:
        file.write("99\tword1\tword2\tmaybe\n")
    refused(*flags, culprit="'maybe'")
    for path in folder.glob("*.tsv"):
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([head, *(row for row in rows if row.endswith("\tno"))]) + "\n")
    refused(*flags, culprit="'no'")


@pytest.mark.parametrize(
    ("flags", "culprit"),
    [
        (["--config.data.label_column=kind"], "'kind'"),
        (["--checkpoint=foo://bucket/run"], "foo://bucket/run"),
        (["--train=http://localhost:9/t.csv", "--data_dir="], "localhost:9/t.csv"),
    ],
)
def test_texts(refused, texts, flags, culprit):
    refused(*texts[1], *flags, culprit=culprit)


@pytest.mark.parametrize(
    ("flags", "culprit"),
    [
        (["--config.batch=64"], "batch"),  # more than there are
        (["--dry_run", "--config.head=deit"], "deit"),
    ],
)
def test_images(refused, images, flags, culprit):
    refused(*images[1], *flags, culprit=culprit)


def test_predictions_do_not_overwrite_what_they_come_from(refused, texts, tmp_path):
    folder, flags = texts
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(SAVED / "fine_tuned_texts", checkpoint)
    single = ["--task=texts", f"--train={folder / 'train.tsv'}", *TEXT_FLAGS]
    evaluation = ["--evaluate_only", "--output_dir=", f"--data_dir={folder}"]
    before = files_below(folder), files_below(checkpoint)
    for culprit, output, given in (
        (folder / "train.tsv", folder / "train.tsv", single),
        (folder / "dev.tsv", folder / "dev.tsv", flags),
        (checkpoint, checkpoint / "vocabulary.txt", [*flags, f"--checkpoint={checkpoint}"]),
        (checkpoint, checkpoint / "new.csv", [*evaluation, f"--checkpoint={checkpoint}"]),
    ):
        refused(*given, f"--predictions={output}", culprit=str(culprit))
    assert (files_below(folder), files_below(checkpoint)) == before


def test_a_file_that_is_gone(refused, images):
    folder, flags = images
    (folder / "validation" / "red" / "zzz.jpg").symlink_to(folder / "nowhere.jpg")
    refused(*flags, culprit="red/zzz.jpg", untouched=False)


def test_an_image_that_does_not_decode(refused, images, tmp_path):
    """Of validation it is known before anything is trained."""
    folder, flags = images
    refused(*flags, culprit=cut(folder / "validation" / "red" / "002.jpg"), untouched=False)
    assert not (tmp_path / "run" / "trials").exists()

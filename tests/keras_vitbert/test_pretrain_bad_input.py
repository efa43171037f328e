"""Bad calls of `pretrain` that its data or its teachers show: refused before anything is written.

What flags and files alone show is in `tests/bad_input`.
"""

import shutil

import pytest

from tests.keras_vitbert.tiny_runs import write_sources


@pytest.mark.parametrize(
    ("variant", "flags", "culprit"),
    [
        ("bert", "--config.model.vocabulary_size=3", "vocabulary_size"),
        ("vit", "--config.model.num_classes=4", "num_classes"),
    ],
)
def test_sizes_that_are_not_those_of_the_data(refused, variant, flags, culprit):
    refused(f"--variant={variant}", flags, culprit=culprit)


def test_teachers_that_are_no_runs(refused, unfinished, tmp_path):
    for folder in (tmp_path, unfinished):
        refused("--variant=vitbert", f"--image_teacher={folder}", culprit=str(folder))


def test_a_run_of_other_settings_in_the_folder(refused, finished):
    flags = "--variant=vit", "--config.model.hidden_dim=16"
    refused(*flags, culprit="model.hidden_dim", output_dir=finished("vit"))
    flags = "--variant=vit", "--config.steps=12", "--accept_changes=config.steps"
    refused(*flags, culprit="steps", output_dir=finished("vit"))


def test_other_data_than_those_of_the_run(refused, finished, sources, tmp_path):
    """As many records of the same classes, but others; the same files in another order."""
    others = write_sources(tmp_path, seed=1)
    for split, name in (("train", "images"), ("validation", "image_validation")):
        flags = ["--variant=vit", f"--config.data.images.{split}={others}/images-{split}-*"]
        refused(*flags, culprit=f" {name}", output_dir=finished("vit"))
    for ours, theirs in ((0, 1), (1, 0)):
        file = sources / f"text-train-{ours:05}-of-00002"
        shutil.copy(file, tmp_path / f"swapped-{theirs:05}-of-00002")
    flags = ["--variant=joint", f"--config.data.text.train={tmp_path}/swapped-*"]
    refused(*flags, culprit=" texts", output_dir=finished("joint"))


@pytest.mark.slow
def test_other_teachers_of_its_own_than_those_of_the_run(refused, finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished("vitbert", own_teachers=True), folder)
    (folder / "summary.json").unlink()
    flags = ["--variant=vitbert", "--config.teachers.image_steps=4"]
    refused(*flags, culprit="teachers/vit", output_dir=folder, untouched=False)
    shutil.rmtree(folder / "teachers" / "vit")
    refused(*flags, culprit="image_teacher", output_dir=folder, untouched=False)
    assert not (folder / "summary.json").exists()


def test_metrics_that_lack_rows(refused, unfinished):
    file = unfinished / "metrics.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    refused("--variant=vit", culprit="metrics.csv", output_dir=unfinished, untouched=False)

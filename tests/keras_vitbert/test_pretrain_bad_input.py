"""Bad calls of `pretrain`: exit status 2, one line that names the culprit, nothing written."""

import pytest

from tests.keras_vitbert.bad_calls import assert_refused
from tests.keras_vitbert.tiny_runs import (
    VOCABULARY,
    write_sources,
)


@pytest.fixture
def refused(sources, tmp_path, capsys):
    """`refused(*flags, culprit=...)`: the call is refused, and leaves the output as it was."""

    def refused(*flags, output_dir=tmp_path / "run", **expected):
        assert_refused(sources, capsys, output_dir, *flags, **expected)

    return refused


def test_bad_vocabularies(refused, tmp_path):
    path = tmp_path / "vocab.txt"
    flags = ["--variant=bert", f"--config.data.vocabulary={path}"]
    refused(*flags, culprit="vocab.txt")
    for tokens, culprit in (
        ([*VOCABULARY, "word0"], "word0"),
        (VOCABULARY[1:], "[PAD]"),
        ([*VOCABULARY, "new"], "vocab"),
    ):
        path.write_text("\n".join(tokens) + "\n")
        refused(*flags, culprit=culprit)
    refused("--variant=bert", "--config.data.vocabulary=", culprit="data.vocabulary")
    path.write_bytes(b"\xff\xfe")
    refused(*flags, culprit="vocab.txt")


# --- teachers ----------------------------------------------------------------------------------


def test_teachers_that_are_no_runs(refused, finished, unfinished, tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path, unfinished, finished("bert")):
        refused("--variant=vitbert", f"--image_teacher={folder}", culprit=str(folder))
    flags = [f"--image_teacher={finished('vit')}", f"--text_teacher={finished('vit')}"]
    refused("--variant=vitbert_no_gm", *flags, culprit="text_teacher")


@pytest.mark.slow
def test_teachers_that_see_something_else(refused, finished, tmp_path):
    teachers = [f"--image_teacher={finished('vit')}", f"--text_teacher={finished('bert')}"]
    four = write_sources(tmp_path)
    (four / "classes.txt").write_text("cat\ndog\ntench\nmore\n")
    four = [f"--config.data.images.train={four}/images-train-*", "--config.model.num_classes=4"]
    for flags in (["--config.model.image_size=12"], four):
        refused("--variant=vitbert", *teachers, *flags, culprit="image_teacher")
    flag = "--config.model.vocabulary_size=40"
    refused("--variant=vitbert", *teachers, flag, culprit="text_teacher", untouched=False)


def test_sizes_that_are_not_those_of_the_data(refused, sources):
    flags = ["--variant=vit", "--config.model.num_classes=4"]
    refused(*flags, culprit="num_classes")
    flags = ["--variant=bert", "--config.model.max_sequence_length=15"]
    refused(*flags, culprit="max_sequence_length")


def test_masks_that_the_run_ends_before(refused):
    flags = ["--variant=vitbert_no_kd", "--config.merge.mask_update_interval=10"]
    refused(*flags, culprit="merge.mask_update_interval")


def test_a_teacher_of_another_vocabulary(refused, finished, tmp_path):
    other = write_sources(tmp_path, seed=1)
    tokens = [*VOCABULARY[:-1], "other"]
    (other / "vocab.txt").write_text("\n".join(tokens) + "\n")
    flags = [f"--image_teacher={finished('vit')}", f"--text_teacher={finished('bert')}"]
    flags += [f"--config.data.vocabulary={other / 'vocab.txt'}"]
    refused("--variant=vitbert", *flags, culprit="text_teacher")

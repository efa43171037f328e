"""Bad calls of `pretrain`: exit status 2, one line that names culprit and fix, nothing written."""

import pytest

from tests.keras_vitbert.bad_calls import assert_refused
from tests.keras_vitbert.tiny_runs import (
    VOCABULARY,
    write_sources,
)


@pytest.fixture
def refused(sources, tmp_path, capsys):
    """`refused(*flags, message=...)`: the call is refused, and leaves the output as it was."""

    def refused(*flags, output_dir=tmp_path / "run", **expected):
        assert_refused(sources, capsys, output_dir, *flags, **expected)

    return refused


def test_bad_vocabularies(refused, tmp_path):
    path = tmp_path / "vocab.txt"
    flags = ["--variant=bert", f"--config.data.vocabulary={path}"]
    refused(*flags, message=r"vocab\.txt: no such vocabulary; ")
    for tokens, message in (
        ([*VOCABULARY, "word0"], r"vocab\.txt: 'word0' occurs twice; keep one"),
        (VOCABULARY[1:], r"vocab\.txt: \[PAD\] missing; take a vocabulary"),
        ([*VOCABULARY, "new"], r"has 37 entries, the model has 36; leave --config.model.v"),
    ):
        path.write_text("\n".join(tokens) + "\n")
        refused(*flags, message=message)
    refused("--variant=bert", "--config.data.vocabulary=", message="lacks data .*vocabulary=FILE$")
    path.write_bytes(b"\xff\xfe")
    refused(*flags, message=r"vocab\.txt: cannot be read as a vocabulary")


# --- teachers ----------------------------------------------------------------------------------


def test_teachers_that_are_no_runs(refused, finished, unfinished, tmp_path):
    for folder, message in (
        (tmp_path / "nowhere", "--image_teacher=.*/nowhere: no such folder, file or preset; give"),
        (tmp_path, r"--image_teacher=.*: holds no model \(there is no config.json\); give the fo"),
        (unfinished, "--image_teacher=.*/unfinished: .* not finished; run its command again"),
        (finished("bert"), "--image_teacher=.*: is a run of --variant=bert, which has no images"),
    ):
        refused("--variant=vitbert", f"--image_teacher={folder}", message=message)
    flags = [f"--image_teacher={finished('vit')}", f"--text_teacher={finished('vit')}"]
    message = "--text_teacher=.*: is a run of --variant=vit, which has no texts"
    refused("--variant=vitbert_no_gm", *flags, message=message)


@pytest.mark.slow
def test_teachers_that_see_something_else(refused, finished, tmp_path):
    teachers = [f"--image_teacher={finished('vit')}", f"--text_teacher={finished('bert')}"]
    four = write_sources(tmp_path)
    (four / "classes.txt").write_text("cat\ndog\ntench\nmore\n")
    four = [f"--config.data.images.train={four}/images-train-*", "--config.model.num_classes=4"]
    for flags, message in (
        (["--config.model.image_size=12"], "--image_teacher=.* 8 pixels, the student of 12; set"),
        (four, "--image_teacher=.* 3 classes, the student 4; give"),
    ):
        refused("--variant=vitbert", *teachers, *flags, message=message)
    flags, message = "--config.model.vocabulary_size=40", "--text_teacher=.* 36 .*the student 40; "
    refused("--variant=vitbert", *teachers, flags, message=message, untouched=False)


def test_sizes_that_are_not_those_of_the_data(refused, sources):
    flags = ["--variant=vit", "--config.model.num_classes=4"]
    refused(*flags, message=r"num_classes=4: .*classes\.txt has 3 classes; leave it out")
    flags = ["--variant=bert", "--config.model.max_sequence_length=15"]
    refused(*flags, message="16 tokens, the model takes at most 15; set")


def test_masks_that_the_run_ends_before(refused):
    flags = ["--variant=vitbert_no_kd", "--config.merge.mask_update_interval=10"]
    message = "mask_update_interval=10: the masks reach .* the run has 10; set it to at most 3; "
    message += "this works, .*: --config.merge.mask_update_interval=3$"
    refused(*flags, message=message)


def test_a_teacher_of_another_vocabulary(refused, finished, tmp_path):
    other = write_sources(tmp_path, seed=1)
    tokens = [*VOCABULARY[:-1], "other"]
    (other / "vocab.txt").write_text("\n".join(tokens) + "\n")
    flags = [f"--image_teacher={finished('vit')}", f"--text_teacher={finished('bert')}"]
    flags += [f"--config.data.vocabulary={other / 'vocab.txt'}"]
    message = (
        r"--text_teacher=.*: has another vocabulary: token 35 is .*, the student's 'other'; give"
    )
    refused("--variant=vitbert", *flags, message=message)

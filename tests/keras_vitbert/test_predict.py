import csv
import json

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert import predict
from keras_vitbert.trained import predicting
from pipelines import command_line
from tests.pipelines.image_fixtures import encoded, picture
from tests.said import without_status


@pytest.fixture
def run(served, served_classifier, monkeypatch, capsys):
    """`run(*flags) -> (status, standard output, standard error)`.

    The names `vitbert` and `text` are checkpoints of the command.
    """
    known = {"vitbert": served.functions, "text": served_classifier.functions}
    monkeypatch.setattr(predicting, "open_functions", lambda path, top_k: known[path])

    def run(*flags):
        capsys.readouterr()
        status = command_line.run(predict.main, list(map(str, flags)))
        return status, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with three images in two folders, and what is none."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "a").mkdir()
    (folder / "b.PNG").write_bytes(encoded(picture(1), "PNG"))
    (folder / "a" / "c.jpg").write_bytes(encoded(picture(2)))
    (folder / "a" / "d.gif").write_bytes(encoded(picture(3), "GIF"))
    (folder / "a" / "notes.txt").write_text("no image")
    return folder


def test_images_of_a_folder_in_order(run, pictures, served):
    status, out, _ = run(
        "--checkpoint=vitbert", f"--image={pictures}", "--format=json", "--batch=2"
    )
    assert status == 0
    rows = [json.loads(line) for line in out.splitlines()]
    names = ["b.PNG", "a/c.jpg", "a/d.gif"]
    assert [row["image"] for row in rows] == names
    contents = [(pictures / name).read_bytes() for name in names]
    expected = served.functions["classify_image"](contents)
    for number, row in enumerate(rows):
        assert [each["label"].encode() for each in row["classes"]] == list(
            expected["top_k_labels"][number].numpy()
        )
        np.testing.assert_allclose(
            [each["probability"] for each in row["classes"]],
            expected["top_k_probabilities"][number],
            rtol=1e-5,
        )


def test_masks_are_filled_where_the_model_can(run, served):
    flags = "--checkpoint=vitbert", "--text=the [MASK] [MASK]"
    row = json.loads(run(*flags, "--format=json")[1])
    expected = served.functions["fill_mask"](tf.constant(["the [MASK] [MASK]"]))
    assert [[each["token"] for each in mask] for mask in row["masks"]] == (
        expected["tokens"][0].numpy().astype("U").tolist()
    )


@pytest.mark.parametrize("paired", [False, True])
def test_a_row_comes_out_for_each_line(run, served_classifier, tmp_path, paired):
    texts = ["the cat sat", "", 'the "cat', "cat\u2028sat", "the cats sat . the cat", "sat"]
    pairs = ["a", "the", "", "cat", "sat", "the cat"]
    rows = (f"0\t{a}\t {b}\t" for a, b in zip(texts, pairs, strict=True))
    lines = ["id\tquestion\tsentence\textra", *rows] if paired else ["sentence", *texts]
    path, out = tmp_path / "dev.tsv", tmp_path / "new" / "out.csv"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n\r\n")
    flags = [f"--file={path}", "--format=csv", f"--output={out}", "--batch=2", "--top_k=2"]
    assert run("--checkpoint=text", *flags)[:2] == (0, "")
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == texts
    assert [row.get("text_pair") for row in rows] == (pairs if paired else [None] * 6)
    given = np.array([texts, pairs]).T if paired else np.array(texts)
    expected = served_classifier.functions["classify_text"](tf.constant(given))
    np.testing.assert_allclose(
        [[float(row["probability_1"]), float(row["probability_2"])] for row in rows],
        expected["top_k_probabilities"],
        rtol=1e-4,
    )
    assert [row["label_1"].encode() for row in rows] == list(expected["top_k_labels"][:, 0].numpy())


def test_a_text_that_names_a_file_is_refused(run, tmp_path, monkeypatch):
    path = tmp_path / "dev.csv"
    path.write_text("sentence\nthe cat\n")
    monkeypatch.setattr(predict, "load_tensorflow", lambda: pytest.fail("TensorFlow is loaded"))
    status, out, err = run("--checkpoint=text", f"--text={path}")
    assert (status, out) == (2, "") and "--file" in err and str(path) in err


def test_what_is_guessed_of_a_table_is_said(run, tmp_path):
    path = tmp_path / "dev.csv"
    path.write_text("sentence|id\nthe cat|1\n")
    status, out, err = run("--checkpoint=text", f"--file={path}", "--format=csv")
    assert status == 0 and out.splitlines()[1].startswith("the cat,")
    [line] = [line for line in err.splitlines() if line.startswith("notice: ")]
    assert str(path) in line


JPEG = encoded(picture(0), quality=95)


def test_images_of_a_folder_that_cannot_be_read_are_left_out(run, tmp_path, monkeypatch):
    """In parts of two; the second holds no image at all, and the first one of each kind."""
    monkeypatch.setattr(predict, "_CHUNK", 2)
    folder = f"ram:/{tmp_path}"
    for number, content in enumerate((JPEG, JPEG[:-400], b"", JPEG[:-400], JPEG)):
        with tf.io.gfile.GFile(f"{folder}/{number}.jpg", "wb") as file:
            file.write(content)
    flags = f"--image={folder}", "--format=csv", "--top_k=1", f"--output={tmp_path}/x"
    status, out, err = run("--checkpoint=vitbert", *flags)
    assert (status, out) == (2, "")
    lines = [line for line in without_status(err) if "jpeg_mem" not in line]  # of libjpeg itself
    for number, line in zip((1, 2, 3), lines, strict=False):
        assert f"{folder}/{number}.jpg" in line
    [error] = lines[3:]
    assert error.startswith("error: ") and folder in error
    _, *rows = (tmp_path / "x").read_text().splitlines()
    assert [row.split("jpg")[0][-2:] for row in rows] == ["0.", "4."]


def test_a_mask_beyond_the_longest_text_is_refused(run):
    status, out, err = run("--checkpoint=vitbert", "--text=the the the the the [MASK]")
    assert (status, out) == (2, "") and "[MASK]" in err.splitlines()[-1]

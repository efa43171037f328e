"""What looks wrong in a user's data is told, once for each kind; nothing is told of clean data."""

import csv
import random

import pyarrow.parquet
import pytest
from PIL import Image

from keras_vitbert.configs.fine_tuning import IMAGES, TEXTS, get_config
from keras_vitbert.experiments.fine_tuning.tasks import read_own

WORDS = [f"word{number}" for number in range(200)]


def texts(count, seed=0, labels=("no", "yes")):
    """Different texts of a few words, and a class each."""
    rng = random.Random(seed)
    return [
        (f"{' '.join(rng.choices(WORDS, k=8))} {seed} {number}", rng.choice(labels))
        for number in range(count)
    ]


def write(path, rows, separator=","):
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows([("text", "label"), *rows])


def draw(folder, name, colour):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 7), colour).save(path)


def pictures(folder, count=6, first=0, classes=("cat", "dog")):
    for place, label in enumerate(classes):
        for number in range(count):
            draw(folder, f"{label}/{number}.png", (number + first, 30 * place, 7))


def notices(kind, data_dir):
    return read_own(get_config(kind, "images" if kind == IMAGES else "text"), str(data_dir)).notices


def planted_copies(folder):
    write(folder / "train.csv", [*texts(40), *texts(40)[3:8]])


def planted_leak(folder):
    write(folder / "train.csv", texts(40))
    write(folder / "test.csv", [*texts(10, seed=1), *texts(40)[5:9]])


def planted_empties(folder):
    rows = texts(60)
    write(
        folder / "train.csv",
        [("  " if n % 3 == 0 else t, label) for n, (t, label) in enumerate(rows)],
    )


def planted_single(folder):
    write(folder / "train.csv", [*texts(40), ("rare words here", "rare")])


def planted_numbers(folder):
    scores = [f"{number / 10}" for number in range(30)]
    write(folder / "train.csv", [(t, scores[n % 30]) for n, (t, _) in enumerate(texts(90))])


def planted_case(folder):
    write(folder / "train.csv", texts(60, labels=("pos", "POS", "neg")))


def planted_nul(folder):
    rows = [(text + "\0", label) for text, label in texts(5)] + texts(40, seed=1)
    table = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
    pyarrow.parquet.write_table(pyarrow.table(table), folder / "train.parquet")


def planted_bars(folder):
    write(folder / "train.csv", texts(40), "|")


def planted_two_labels(folder):
    write(
        folder / "train.csv",
        [*texts(40), (texts(40)[0][0], "other"), *texts(5, labels=["other"], seed=2)],
    )
    write(folder / "test.csv", texts(9, seed=3))


def planted_image_copies(folder):
    pictures(folder)
    draw(folder, "cat/again.png", (2, 0, 7))


def planted_image_leak(folder):
    pictures(folder / "train")
    pictures(folder / "test", first=100)
    draw(folder, "test/dog/9.png", (3, 30, 7))


def planted_two_classes(folder):
    pictures(folder / "train")
    draw(folder, "train/dog/9.png", (3, 0, 7))
    pictures(folder / "test", first=100)


def planted_case_folders(folder):
    pictures(folder, classes=("Cat", "cat", "dog"))


@pytest.mark.parametrize(
    ("plant", "task", "wanted"),
    [
        (planted_copies, TEXTS, [("copies", "train", 5, "line 42")]),
        (planted_leak, TEXTS, [("shared", "test", 4, "line 12")]),
        (planted_empties, TEXTS, [("empty", "train", 20, "line 2")]),
        (planted_single, TEXTS, [("one_example", "train", 1, "rare")]),
        (planted_numbers, TEXTS, [("numbers", "train", 30, "")]),
        (planted_case, TEXTS, [("case", "train", 1, "")]),
        (planted_nul, TEXTS, [("nul", "train", 5, "line 1")]),
        (planted_bars, TEXTS, [("separator", "train", 0, "")]),
        (planted_two_labels, TEXTS, [("two_classes", "train", 1, "line 42")]),
        (planted_image_copies, IMAGES, [("copies", "train", 1, "")]),
        (planted_image_leak, IMAGES, [("shared", "test", 1, "dog/9.png")]),
        (planted_two_classes, IMAGES, [("two_classes", "train", 1, "")]),
        (planted_case_folders, IMAGES, [("case", "train", 1, "Cat and cat")]),
    ],
)  # fmt: skip
def test_planted_faults(tmp_path, plant, task, wanted):
    plant(tmp_path)
    found = notices(task, tmp_path)
    assert [(one.kind, one.split, one.count) for one in found] == [row[:3] for row in wanted]
    for notice, (*_, first) in zip(found, wanted, strict=True):
        assert not first or notice.examples[0] == first
        assert len(notice.examples) <= 3 and "\n" not in str(notice)
        assert all(name in str(notice) for name in notice.examples)


@pytest.mark.parametrize("has_test", [True, False])
@pytest.mark.parametrize("classes", [("no", "yes"), ("1", "2", "3", "4", "5"), ("A", "b", "C")])
def test_clean_data(tmp_path, has_test, classes):
    (tmp_path / "texts").mkdir()
    write(tmp_path / "texts/train.csv", texts(80, labels=classes))
    pictures(tmp_path / "images/train", classes=classes)
    if has_test:
        write(tmp_path / "texts/test.csv", texts(20, seed=1, labels=classes))
        pictures(tmp_path / "images/test", first=100, classes=classes)
    assert notices(TEXTS, tmp_path / "texts") == notices(IMAGES, tmp_path / "images") == []


def test_a_copy_with_the_same_size_and_other_bytes_is_none(tmp_path):
    pictures(tmp_path)
    sizes = {path.stat().st_size for path in tmp_path.rglob("*.png")}
    assert len(sizes) < 12  # some are alike
    keys = read_own(get_config(IMAGES, "images"), str(tmp_path)).images["train"].keys
    assert len(set(keys)) == 12

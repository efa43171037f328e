"""The data of the scales `sample` and `small`: for pre-training, and for tasks it has not seen.

A folder is filled once; `SHA256.json` in it is written last and holds the digest of each kind.
"""

import collections
import hashlib
import json
import os
import shlex
import shutil

from keras_vitbert.reproduction.held_out_texts import book_of, write_next, write_source
from keras_vitbert.reproduction.running import called, require_done
from keras_vitbert.runs.run_lock import held_at_last
from pipelines.digests import whole_digest
from pipelines.files import json_object, write_atomically, written_whole
from pipelines.status import doing, say
from pipelines.text import documents

DIGESTS = "SHA256.json"
_SEED = 0
_WORDS = 40  # the fewest in a passage; two passages have about 110 tokens
# Of the 5,000 training images of each class of CIFAR-10: from, to. Its test images are not used.
_CIFAR_PARTS = {
    "pretrain/train": (0, 2_400),
    "pretrain/validation": (2_400, 2_500),
    "task/train": (2_500, 4_500),
    "task/validation": (4_500, 5_000),
}
_VOCABULARY, _LENGTH, _PASSES = 2_000, 128, 4
# Of every eight chapters of a book, those that tasks train on, those that they are measured on, and
# those that pre-training is validated on. Pre-training trains on the others.
_TASK_TRAINING, _TASK_DEV, _VALIDATION = (4, 5), (6,), (7,)
_CHAPTERS = 8


def prepared(folder, build):
    """Fills a folder, unless it is already filled; one process at a time.

    Args:
        folder: str.
        build: callable that takes the folder; called again if it was stopped.

    Returns:
        dict of a subfolder to the SHA-256 of its files.
    """
    path = os.path.join(folder, DIGESTS)
    if not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        with held_at_last(folder, "prepares the data"):
            if not os.path.exists(path):
                build(folder)
                with doing("reading what was prepared"):
                    digests = {
                        entry.name: _digest(entry.path)
                        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)
                        if entry.is_dir()
                    }
                write_atomically(path, json.dumps(digests, indent=1) + "\n")
    with open(path, encoding="utf-8") as file:
        return json_object(file.read())


def _digest(folder):
    """The SHA-256 of the names and contents of all files below a folder.

    Manifests do not count: they record where their sources were.
    """
    digest = hashlib.sha256()
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(name for name in names if not name.endswith(".manifest.json")):
            path = os.path.join(parent, name)
            digest.update(f"{os.path.relpath(path, folder)} {whole_digest(path)[0]}\n".encode())
    return digest.hexdigest()


def build_sample(folder):
    """The tasks of the scale `sample`: digits of scikit-learn, and held-out articles.

    Pre-training has its own data, see `pipelines.prepare.sample`.

    Args:
        folder: str.
    """
    from pipelines import package_data
    from pipelines.prepare import sample, wikipedia

    made = sample.prepare()
    os.makedirs(os.path.join(folder, "vocabulary"), exist_ok=True)
    shutil.copyfile(made.vocabulary, os.path.join(folder, "vocabulary", "vocab.txt"))
    _write_digits(os.path.join(folder, "digits"))
    with doing("reading the articles"):
        articles = list(
            wikipedia.read_documents(package_data.find_package_file(*sample.WIKIPEDIA_FILE))
        )
    held_out = sample.held_out_documents(len(articles), _SEED)
    unseen = [articles[place] for place in sorted(held_out)]
    half = len(unseen) // 2
    counts = write_next(
        os.path.join(folder, "next"), {"train": unseen[half:], "dev": unseen[:half]}, 20, _SEED
    )
    say(f"next: {counts}")


def _write_digits(folder):
    """scikit-learn's 8 x 8 digits, three times as large, as a folder of classes."""
    import tensorflow as tf
    from sklearn import datasets

    images, labels = datasets.load_digits(return_X_y=True)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        split = "validation" if number % 3 == 0 else "train"
        target = os.path.join(folder, split, str(label))
        os.makedirs(target, exist_ok=True)
        pixels = (image.reshape(8, 8, 1) * 255 / 16).astype("uint8").repeat(3, 0).repeat(3, 1)
        tf.io.write_file(os.path.join(target, f"{number:04d}.png"), tf.io.encode_png(pixels))


def build_small(folder, cifar10, books):
    """The data of the scale `small`.

    Args:
        folder: str.
        cifar10: str, holds `train/CLASS/*.jpg` with 5,000 images per class.
        books: str, plain-text books.
    """
    from pipelines import package_data
    from pipelines.prepare import sample

    classes = _images_of_classes(cifar10)
    texts = os.path.join(folder, "documents")
    dump = package_data.find_package_file(*sample.WIKIPEDIA_FILE)
    _call("pipelines.books", f"--folder={books}", f"--output={texts}/all/books", "--shards=1")
    _call("pipelines.wikipedia", f"--dump={dump}", f"--output={texts}/all/wiki", "--shards=1")
    unseen = _divide(texts)
    for name, write in (("next", write_next), ("source", write_source)):
        say(f"{name}: {write(os.path.join(folder, name), unseen, _WORDS, _SEED)}")
    words = os.path.join(folder, "vocabulary", "vocab.txt")
    os.makedirs(os.path.dirname(words), exist_ok=True)
    if not os.path.exists(words):
        pattern = os.path.join(texts, "train.jsonl")
        _call(
            "pipelines.vocabulary",
            f"--documents={pattern}",
            f"--output={words}",
            f"--size={_VOCABULARY}",
        )
    for split, passes in (("train", _PASSES), ("validation", 1)):
        _call(
            "pipelines.text_examples",
            f"--documents={os.path.join(texts, split)}.jsonl",
            f"--vocabulary={words}",
            f"--output={os.path.join(folder, 'text', split)}",
            "--shards=1",
            f"--duplication={passes}",
            f"--max_length={_LENGTH}",
        )
    _link_images(classes, os.path.join(folder, "cifar10"))
    _call(
        "pipelines.imagenet",
        f"--folder={os.path.join(folder, 'cifar10', 'pretrain')}",
        f"--output={os.path.join(folder, 'images')}",
        *("--train_shards=8", "--validation_shards=1"),
    )


def _images_of_classes(cifar10):
    """The images of each class in their order: dict of a class to a list of paths."""
    source = os.path.join(cifar10, "train")
    if not os.path.isdir(source):
        raise ValueError(f"--cifar10={cifar10}: holds no folder train; give CIFAR-10 as images")
    needed = max(end for _, end in _CIFAR_PARTS.values())
    classes = {}
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        if not entry.is_dir():  # such as what a file manager leaves
            continue
        images = sorted(os.listdir(entry.path))
        if len(images) < needed:
            raise ValueError(
                f"{entry.path}: {len(images)} images, {needed} are needed; give all training "
                "images of CIFAR-10"
            )
        classes[entry.name] = [os.path.join(entry.path, name) for name in images]
    return classes


def _link_images(classes, folder):
    """Divides the images of each class, by hard links or copies."""
    for name, images in classes.items():
        for part, (begin, end) in _CIFAR_PARTS.items():
            target = os.path.join(folder, part, name)
            os.makedirs(target, exist_ok=True)
            for image in images[begin:end]:
                _link(image, os.path.join(target, os.path.basename(image)))


def _link(source, target):
    if os.path.exists(target):
        return
    try:
        os.link(source, target)
    except OSError:  # another disk
        with open(source, "rb") as image, written_whole(target) as file:
            shutil.copyfileobj(image, file)


def _divide(texts):
    """Divides documents: writes those to train and validate on, and returns those for tasks."""
    parts = {"train": [], "validation": []}
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
                    parts["validation" if place in _VALIDATION else "train"].append(document)
    for split, found in parts.items():
        content = b"".join(documents.to_json(document) + b"\n" for document in found)
        write_atomically(os.path.join(texts, f"{split}.jsonl"), content)
    return unseen


def _call(module, *arguments):
    command = ["-m", module, *arguments]
    say("+ " + shlex.join(["python", *command]))
    require_done(module, called(command))

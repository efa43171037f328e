"""A user's own data, read as far as that takes no TensorFlow, with notices about what looks wrong.

So bad data are refused at once: TensorFlow and a checkpoint take many seconds to open.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
import os
from collections.abc import Collection, Mapping
from typing import Any

from pipelines.files import reading
from pipelines.tasks.labelled_rows import LabelledRows, numbered, read_rows
from pipelines.tasks.listed_images import ListedImages, read_images
from pipelines.tasks.notices import Examples, Notice, find_notices
from pipelines.tasks.own_data import FOLDERS, RECORDS, Place

_THREADS = 16  # they wait for the disk
_MOST_COMPARED = 100_000  # files; to read more of them takes minutes


@dataclasses.dataclass(frozen=True)
class OwnExamples:
    """The examples of each split: images in lists, or rows of text. Records are not read."""

    places: dict[str, Place]
    images: dict[str, ListedImages]
    rows: dict[str, LabelledRows]
    classes: list[str]
    notices: list[Notice]


def read_own_examples(
    places: dict[str, Place],
    kind: str,
    columns: Any,
    skip_damaged: int = 0,
    asked_for: Collection[str] = (),
    classes: list[str] | None = None,
    known_columns: Mapping[str, Any] | None = None,
) -> OwnExamples:
    """Reads what `own_data.find_splits` found.

    Args:
        kind: `images` or `text`.
        columns: the section `data` of a task's config.
        skip_damaged: how many rows that are damaged or have no label may be left out.
        asked_for: splits of texts that must have labels.
        classes, known_columns: those of a trained model, see
            `keras_vitbert.experiments.fine_tuning.task_data.open_task`.
    """
    images: dict[str, ListedImages] = {}
    rows: dict[str, LabelledRows] = {}
    notices: list[Notice] = []
    known = known_columns or {"sentences": (), "label": ""}
    for split, place in places.items():
        if place.form == RECORDS:
            classes = _classes_of_records(place, classes)
            continue
        if place.form == FOLDERS:
            images[split], classes = ListedImages.find(place.paths[0], classes)
            continue
        tables = place.tables()
        notices += [Notice("separator", split, table.guess) for table in tables if table.guess]
        if kind == "images":
            names = columns.image_column, columns.label_column
            images[split], classes, left_out = read_images(tables, *names, classes, skip_damaged)
        else:
            there = set(tables[0].columns)
            if rows and known["label"] not in there and split not in asked_for and split == "test":
                text = f"{place}: has no column {known['label']!r}, so nothing is measured on it"
                notices.append(Notice("unlabelled", split, text))
                continue
            given = tuple(filter(None, columns.sentence_columns.split(",")))
            usual = known["sentences"] if there.issuperset(known["sentences"]) else ()
            label = columns.label_column or (known["label"] if known["label"] in there else "")
            rows[split] = read = read_rows(tables, given or usual, label, skip_damaged)
            left_out = read.left_out
            if len(known["sentences"]) not in (0, len(read.sentence_columns)):
                raise ValueError(
                    f"{read.source}: has {len(read.sentence_columns)} columns of sentences, others "
                    f"have {len(known['sentences'])}; name them in data.sentence_columns"
                )
            if len(rows) == 1:  # the next splits have the columns of the first one, if present
                known = {"sentences": read.sentence_columns, "label": read.label_column}
            _, classes = numbered(read.labels, classes, read.source)
        skip_damaged -= len(left_out)
        if left_out:
            notices.append(Notice.of("left_out", split, "rows are left out", left_out))
    if not classes or len(classes) < 2:
        raise ValueError(f"{places['train']}: all training examples are of class {classes}")
    images = _with_keys(images, notices)
    splits: Mapping[str, Examples] = images or rows
    notices += find_notices(splits, classes)
    return OwnExamples(places, images, rows, classes, notices)


def _classes_of_records(place: Place, classes: list[str] | None) -> list[str]:
    with reading(os.path.join(os.path.dirname(place.paths[0]), "classes.txt")) as (file, _):
        known = file.read().decode().splitlines()
    if classes not in (None, known):
        raise ValueError(f"{place}: its classes differ from those of the training images")
    return known


def _with_keys(images: dict[str, ListedImages], notices: list[Notice]) -> dict[str, ListedImages]:
    """The images with keys, by their bytes; a file is read if another one is of its size."""
    count = sum(store.count for store in images.values())
    remote = any("://" in store.images.source for store in images.values())
    if remote or count > _MOST_COMPARED:
        where = "remote images" if remote else f"{count:,} images"
        notices.append(Notice("not_compared", "train", f"copies among {where} are not looked for"))
        return images
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:
        sizes = {name: [*threads.map(one.size, range(one.count))] for name, one in images.items()}
        counts = collections.Counter(itertools.chain(*sizes.values()))

        def key(store: ListedImages, place: int, size: int) -> int:
            if counts[size] == 1:  # no other image has it
                return -1 - size
            return int.from_bytes(hashlib.sha256(store.encoded(place)).digest(), "big")

        return {
            split: dataclasses.replace(
                store,
                keys=[*threads.map(functools.partial(key, store), itertools.count(), sizes[split])],
            )
            for split, store in images.items()
        }

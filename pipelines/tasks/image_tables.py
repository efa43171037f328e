"""Labelled images from tables, which hold the paths of the images or the images themselves."""

import os

import numpy as np

from pipelines.command_line import say
from pipelines.images.image_lists import WHOLE_FILE, ImageList
from pipelines.tasks.image_stores import ImageCells, ImageFiles
from pipelines.tasks.labelled_rows import (
    LABELS,
    class_order,
    find_columns,
    keep_damaged,
    label_problem,
)
from pipelines.tasks.own_data import IMAGE_COLUMNS


def read_images(tables, image_column="", label_column="", classes=None, max_bad_records=0):
    """Reads the images and classes of the tables that a split consists of.

    Paths are relative to the folder of their table. The images are shuffled once, always in the
    same way, so that any part of them is a random sample.

    Args:
        tables: list of `pipelines.tasks.tables.Table`.
        image_column, label_column: str, names; empty for the usual ones.
        classes: list of str, the classes of the training images, if they are known.
        max_bad_records: int, how many rows that are damaged or have no label may be left out.

    Returns:
        (`ImageFiles` or `ImageCells`, list of str with the names of the classes, number of rows
        that were left out).

    Raises:
        ValueError: a column is missing, a row is damaged, a file is missing, there is no image, or
            there is a class that is not among `classes`.
    """
    images, labels, places, damaged = [], [], [], []
    for table in tables:
        names = _columns(table, image_column, label_column)
        for row in table.read(names):
            where = f"{table.path}, {table.unit} {row.number}"
            image, label = row.values or (None, None)
            reason = row.damage
            if not reason and not image:
                reason = f"{names[0]!r} is empty"
            reason = reason or label_problem(label)
            if not reason and isinstance(image, str):
                image = os.path.join(os.path.dirname(table.path), image)
                if "://" not in image and not os.path.isfile(image):
                    reason = f"{image} does not exist or is not a file"
            if reason:
                keep_damaged(damaged, f"{where}: {reason}", max_bad_records, table.unit)
                say(f"left out: {damaged[-1]}")
                continue
            images.append(image)
            labels.append(label.strip())
            places.append(str(row.number))
    source = tables[0].path
    if not images:
        raise ValueError(f"{source}: holds no examples; fill it")
    classes = sorted(set(labels), key=class_order) if classes is None else classes
    numbers = {name: label for label, name in enumerate(classes)}
    for label in labels:
        if label not in numbers:
            raise ValueError(
                f"{source}: {label!r} is not one of the {len(classes):,} classes of the training "
                "images; remove those rows, or add it to them"
            )
    found = np.array([numbers[label] for label in labels], np.int32)
    if len({type(image) for image in images}) > 1:
        raise ValueError(f"{source}: holds images and paths of images; keep one of them")
    order = np.random.default_rng(0).permutation(len(images))
    if isinstance(images[0], bytes):
        cells, places = ([of[i] for i in order] for of in (images, places))
        return ImageCells(cells, found[order], places, source), classes, len(damaged)
    folder = os.path.dirname(source)
    # Relative to the table, so that both may be moved.
    below = os.path.join(folder, "") if folder else ""
    entries = [(int(found[i]), images[i].removeprefix(below), 0, WHOLE_FILE) for i in order]
    return ImageFiles(ImageList.of(folder, entries)), classes, len(damaged)


def _columns(table, image_column, label_column):
    """The columns of images and of classes."""
    usual = [(name,) for name in table.image_columns] or IMAGE_COLUMNS
    flag = "--config.data.image_column"
    wanted = [image_column] if image_column else []
    [image] = find_columns(table.path, table.columns, wanted, usual, "image", flag)
    rest = [name for name in table.columns if name != image]
    wanted = [label_column] if label_column else rest if len(rest) == 1 else []
    flag = "--config.data.label_column"
    [label] = find_columns(table.path, table.columns, wanted, LABELS, "label", flag)
    return [image, label]

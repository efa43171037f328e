"""Labelled images from tables, which hold the paths of the images or the images themselves."""

import os
from collections.abc import Sequence

import numpy as np

from pipelines.images.image_lists import WHOLE_FILE, ImageList
from pipelines.tasks.image_stores import ImageCells, ImageFiles
from pipelines.tasks.labelled_rows import LABELS, class_order, find_columns, whole_rows
from pipelines.tasks.own_data import IMAGE_COLUMNS
from pipelines.tasks.tables import Table


def read_images(
    tables: Sequence[Table],
    image_column: str = "",
    label_column: str = "",
    classes: list[str] | None = None,
    skip_damaged: int = 0,
) -> tuple[ImageFiles | ImageCells, list[str], int]:
    """Reads the images and classes of the tables that a split consists of.

    Paths are relative to the folder of their table. The images are shuffled once, always in the
    same way, so that any part of them is a random sample.

    Args:
        tables: at least one, of one folder.
        image_column, label_column: empty for the usual names.
        classes: those of the training images, if they are known.
        skip_damaged: how many rows that are damaged or have no label may be left out.

    Returns:
        The images, the names of the classes, and how many rows were left out.

    Raises:
        ValueError: a column is missing, a row is damaged, a file is missing, there is no image, or
            there is a class that is not among `classes`.
    """
    source = tables[0].path
    folder = os.path.dirname(source)

    def problem(table, values):
        [image] = values
        if not image:
            return "the image is empty"
        path = os.path.join(folder, image) if isinstance(image, str) else ""
        if path and "://" not in path and not os.path.isfile(path):
            return f"{path} does not exist or is not a file"
        return ""

    rows, left_out = whole_rows(
        tables, lambda table: _columns(table, image_column, label_column), problem, skip_damaged
    )
    images = [row.values[0] for _, row in rows]
    labels = [row.values[1].strip() for _, row in rows]
    classes = sorted(set(labels), key=class_order) if classes is None else classes
    numbers = {name: label for label, name in enumerate(classes)}
    for label in labels:
        if label not in numbers:
            raise ValueError(
                f"{source}: {label!r} is not one of the {len(classes):,} classes of the training "
                "images"
            )
    found = np.array([numbers[label] for label in labels], np.int32)
    order = np.random.default_rng(0).permutation(len(images))
    if isinstance(images[0], bytes):
        cells, places = [images[i] for i in order], [str(rows[i][1].number) for i in order]
        return ImageCells(cells, found[order], places, source), classes, left_out
    # Relative to the table, so that both may be moved.
    below = os.path.join(folder, "") if folder else ""
    paths = [os.path.join(folder, image).removeprefix(below) for image in images]
    entries = [(int(found[i]), paths[i], 0, WHOLE_FILE) for i in order]
    return ImageFiles(ImageList.of(folder, entries)), classes, left_out


def _columns(table, image_column, label_column):
    """The columns of images and of classes."""
    usual = [(name,) for name in table.image_columns] or IMAGE_COLUMNS
    wanted = [image_column] if image_column else []
    [image] = find_columns(table, wanted, usual, "data.image_column")
    rest = [name for name in table.columns if name != image]
    wanted = [label_column] if label_column else rest if len(rest) == 1 else []
    return [image, *find_columns(table, wanted, LABELS, "data.label_column")]

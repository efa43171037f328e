"""Downstream tasks as TensorFlow Datasets stores them."""

import logging
import os
from collections.abc import Sequence

from pipelines.command_line import one_line
from pipelines.images.image_records import ImageRecordFiles
from pipelines.shards.records import RecordFiles
from pipelines.tasks.labelled_rows import LabelledRows


def _is_news(record):
    return not record.getMessage().startswith("Variant folder")


def open_builder(name: str, data_dir: str = "", download: bool = False):
    """The `tfds.core.DatasetBuilder` of a prepared data set.

    Args:
        name: such as `glue/rte`.
        data_dir: where TFDS keeps prepared data; TFDS's own default if empty.
        download: whether TFDS may download and prepare what is missing. Without a network, it takes
            minutes to give up.

    Raises:
        ValueError: the data set is missing and cannot be prepared.
    """
    import tensorflow_datasets as tfds

    # TFDS warns about a missing folder, which is reported below.
    logging.getLogger("absl").addFilter(_is_news)
    where = data_dir or os.path.expanduser(tfds.core.constants.DATA_DIR)
    try:
        builder = tfds.builder(name, data_dir=data_dir or None, try_gcs=False)
        if builder.is_prepared():
            return builder
        if download:
            builder.download_and_prepare()
            return builder
        reason = "and download is off"
    except Exception as error:
        # No network, no space, no original files, no access: TFDS fails in many ways.
        text = f"{type(error).__name__}: {one_line(error)[:200]}"
        reason = f"and TFDS cannot prepare it here ({text})"
    raise ValueError(
        f"{name} is not in {where}, {reason}; fill that folder by `tfds build {name} "
        f"--data_dir={where}` where there is a network, or name the data_dir that has it"
    )


def class_names(builder) -> list[str]:
    """The names of the classes, in the order of the labels."""
    return list(builder.info.features["label"].names)


def read_images(builder, split: str) -> ImageRecordFiles:
    """The images of a split, read from the files that TFDS wrote; features `image` and `label`.

    Raises:
        ValueError: the files are missing, or are not TFRecords.
    """
    where = os.fspath(builder.data_path)
    form = builder.info.file_format
    if form is not None and form.value != "tfrecord":
        raise ValueError(
            f"{where}: its files are {form.value}; prepare it in another data_dir with `tfds build "
            f"{builder.name} --file_format=tfrecord`"
        )
    pattern = os.path.join(where, f"{builder.name}-{split}.tfrecord-*-of-*")
    records = RecordFiles.find(pattern)
    num_classes = builder.info.features["label"].num_classes
    return ImageRecordFiles(records, num_classes, "image", "label", label_offset=0)


def read_rows(builder, split: str, columns: Sequence[str]) -> LabelledRows:
    """The sentences of a split, all in memory, from one or two features; classes by their names."""
    names = class_names(builder)
    texts, labels = [[] for _ in columns], []
    for row in builder.as_dataset(split=split, shuffle_files=False).as_numpy_iterator():
        for column, values in zip(columns, texts, strict=True):
            values.append(row[column].decode())
        labels.append(names[int(row["label"])])
    source = f"{os.fspath(builder.data_path)}, split {split}"
    first, *rest = map(tuple, texts)
    return LabelledRows(source, first, rest[0] if rest else None, tuple(labels))

"""Downstream tasks as TensorFlow Datasets stores them."""

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.command_line import one_line
from pipelines.images.image_records import ImageRecordFiles
from pipelines.shards.records import RecordFiles
from pipelines.tasks.labelled_rows import LabelledRows

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Variant folder")


def open_builder(
    name: str, data_dir: str = "", download: bool = False
) -> "tfds.core.DatasetBuilder":
    """TFDS' builder of a prepared data set, such as `glue/rte`.

    Args:
        data_dir: where TFDS keeps prepared data; TFDS's own default if empty.
        download: whether TFDS may download and prepare what is missing. Without a network, it takes
            minutes to give up.
    """
    import tensorflow_datasets as tfds

    # TFDS warns about a missing folder, which is reported below.
    logging.getLogger("absl").addFilter(_is_news)
    where = data_dir or os.path.expanduser(
        tfds.core.constants.DATA_DIR  # pyright: ignore[reportAttributeAccessIssue]
    )
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


def class_names(builder: "tfds.core.DatasetBuilder") -> list[str]:
    """The names of the classes, in the order of the labels."""
    return list(_label(builder).names)


def _label(builder: "tfds.core.DatasetBuilder") -> Any:
    features: Any = builder.info.features
    return features["label"]


def read_images(builder: "tfds.core.DatasetBuilder", split: str) -> ImageRecordFiles:
    """The images of a split, read from the files that TFDS wrote; features `image` and `label`."""
    where = os.fspath(builder.data_path)
    form = builder.info.file_format
    if form is not None and form.value != "tfrecord":
        raise ValueError(
            f"{where}: its files are {form.value}; prepare it in another data_dir with `tfds build "
            f"{builder.name} --file_format=tfrecord`"
        )
    pattern = os.path.join(where, f"{builder.name}-{split}.tfrecord-*-of-*")
    records = RecordFiles.find(pattern)
    return ImageRecordFiles(records, _label(builder).num_classes, "image", "label", label_offset=0)


def read_rows(builder: Any, split: str, columns: Sequence[str]) -> LabelledRows:
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

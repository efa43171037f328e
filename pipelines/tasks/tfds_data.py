"""Downstream tasks as TensorFlow Datasets stores them."""

import logging
import os

from pipelines.command_line import one_line
from pipelines.images.image_record_files import ImageRecordFiles
from pipelines.shards.records import RecordFiles
from pipelines.tasks.labelled_rows import LabelledRows


def _is_news(record):
    return not record.getMessage().startswith("Variant folder")


def open_builder(name, data_dir="", download=False):
    """The builder of a prepared data set.

    Args:
        name: str, such as `glue/rte`.
        data_dir: str, where TFDS keeps prepared data; TFDS's own default if empty.
        download: bool, whether TFDS may download and prepare what is missing. Without a network,
            it takes minutes to give up.

    Returns:
        `tfds.core.DatasetBuilder`.

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
        reason = "and --download was not given"
    except Exception as error:
        # No network, no space, no original files, no access: TFDS fails in many ways.
        reason = f"and TFDS cannot prepare it here ({_reason(error)})"
    raise ValueError(
        f"{name} is not in {where}, {reason}; fill that folder by `tfds build {name} "
        f"--data_dir={where}` where there is a network, let TFDS fetch it with --download, or give "
        "the folder that has it with --data_dir=DIR"
    )


def class_names(builder):
    """The names of the classes.

    Args:
        builder: from `open_builder`, with a feature `label`.

    Returns:
        list of str, in the order of the labels.
    """
    return list(builder.info.features["label"].names)


def read_images(builder, split):
    """The images of a split, read from the files that TFDS wrote.

    Args:
        builder: from `open_builder`, with features `image` and `label`.
        split: str.

    Returns:
        `ImageRecordFiles`.

    Raises:
        ValueError: the split is missing, or the files are not TFRecords.
    """
    where = os.fspath(builder.data_path)
    if split not in builder.info.splits or not builder.info.splits[split].num_examples:
        raise ValueError(f"{where}: has no split {split!r}; let TFDS prepare it again")
    form = builder.info.file_format
    if form is not None and form.value != "tfrecord":
        raise ValueError(
            f"{where}: its files are {form.value}; prepare it with `tfds build {builder.name} "
            "--file_format=tfrecord --data_dir=DIR` and give --data_dir=DIR"
        )
    pattern = os.path.join(where, f"{builder.name}-{split}.tfrecord-*-of-*")
    records = RecordFiles.find(pattern, "data_dir")
    num_classes = builder.info.features["label"].num_classes
    return ImageRecordFiles(records, num_classes, "image", "label", label_offset=0)


def read_rows(builder, split, columns):
    """The sentences of a split, all in memory.

    Args:
        builder: from `open_builder`.
        split: str.
        columns: one or two names of features.

    Returns:
        `LabelledRows`; labels are the names of the classes.

    Raises:
        ValueError: TFDS cannot read the split.
    """
    names = class_names(builder)
    texts, labels = [[] for _ in columns], []
    try:
        for row in builder.as_dataset(split=split, shuffle_files=False).as_numpy_iterator():
            for column, values in zip(columns, texts, strict=True):
                values.append(row[column].decode())
            labels.append(names[int(row["label"])])
    except Exception as error:
        raise ValueError(
            f"{os.fspath(builder.data_path)}: TFDS cannot read the split {split!r} "
            f"({_reason(error)}); let TFDS prepare it again"
        ) from error
    source = f"{os.fspath(builder.data_path)}, split {split}"
    return LabelledRows(
        source, tuple(texts[0]), tuple(texts[1]) if len(texts) > 1 else None, tuple(labels)
    )


def _reason(error):
    text = one_line(error)
    return f"{type(error).__name__}: {text[:200]}"

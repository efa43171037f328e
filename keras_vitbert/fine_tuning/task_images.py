"""Opens the images of a task, from TFDS or a user's own."""

import os

import tensorflow as tf

from pipelines.images.image_record_files import ImageRecordFiles
from pipelines.images.image_views import ImageViews
from pipelines.shards.records import RecordFiles
from pipelines.tasks import own_data, tfds_data
from pipelines.tasks.image_stores import ImageFiles
from pipelines.tasks.image_tables import read_images
from pipelines.tasks.labelled_images import LabelledImages


def open_tfds(task, config, data_dir, download):
    """The splits of a task of TensorFlow Datasets.

    Args:
        task: `keras_vitbert.fine_tuning.tasks.Task`.
        config: `keras_vitbert.configs.fine_tuning.FineTuning`.
        data_dir: str, TFDS' data folder.
        download: bool, whether TFDS may fetch missing data.

    Returns:
        (list of str, the classes; dict of a split to `LabelledImages`).

    Raises:
        ValueError: something is missing or damaged.
    """
    builder = tfds_data.open_builder(task.tfds, data_dir, download)
    classes = tfds_data.class_names(builder)
    splits = ["train", *task.tests, *([task.selection] if task.selection else [])]
    return classes, _viewed(
        {split: tfds_data.read_images(builder, split) for split in splits}, config
    )


def open_own(places, config, classes=None, skip_damaged=0, choose=None):
    """The splits of a user's own images.

    Args:
        places: dict of a split to a `pipelines.tasks.own_data.Place`, `train` first if present.
        config: `keras_vitbert.configs.fine_tuning.FineTuning`.
        classes: list of str, those of a trained model; those of the first split by default.
        skip_damaged: int, how many damaged rows of tables may be left out.
        choose: function of the first split's store that returns the config without open fields.

    Returns:
        (list of str, the classes; dict of a split to `LabelledImages`).

    Raises:
        ValueError: something is missing or damaged, or a split has a class that the first lacks.
    """
    stores = {}
    for split, place in places.items():
        if place.form == own_data.RECORDS:
            known = _classes_of_records(place.paths[0])
            if classes not in (None, known):
                raise ValueError(f"{place}: has other classes than the training images; fix that")
            records = RecordFiles.find(place.paths[0])
            stores[split], classes = ImageRecordFiles(records, len(known)), known
        elif place.form == own_data.FOLDERS:
            stores[split], classes = ImageFiles.find(place.paths[0], classes)
        else:
            columns = config.data.image_column, config.data.label_column
            stores[split], classes, damaged = read_images(
                place.tables(), *columns, classes, skip_damaged
            )
            skip_damaged -= damaged
    if choose is not None:
        config = choose(next(iter(stores.values())))
    return classes, _viewed(stores, config)


def _viewed(stores, config):
    views = ImageViews.from_config(config.image_size, config.images)
    return {split: LabelledImages(store, views) for split, store in stores.items()}


def _classes_of_records(pattern):
    """The class names of record files that `pipelines.imagenet` wrote."""
    path = os.path.join(os.path.dirname(pattern), "classes.txt")
    try:
        with tf.io.gfile.GFile(path) as file:
            return file.read().splitlines()
    except (tf.errors.OpError, ValueError) as error:
        raise ValueError(
            f"{path}: cannot be read; it names the classes of train-*-of-*, as "
            "pipelines.imagenet writes it"
        ) from error

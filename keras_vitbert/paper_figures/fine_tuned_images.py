"""The images that a fine-tuned run was tested on, as the rows of its predictions name them."""

import collections
import functools
import os

import tensorflow as tf

from keras_vitbert.fine_tuning.task_data import HELD_OUT
from pipelines.files import printable
from pipelines.images.image_records import ImageRecordFiles
from pipelines.images.image_sources import read_bytes
from pipelines.shards.records import RecordFiles
from pipelines.tasks import own_data, tfds_data
from pipelines.tasks.labelled_images import read_images


class FineTunedImages:
    """The images of a split.

    Args:
        task: `keras_vitbert.fine_tuning.tasks.Task`.
        split: str, the split that the run reports.
        folder: str, that of the task's data, local or `gs://`; empty for that of TFDS.
        columns: sequence of two str, of images and of labels in a table; empty for the usual ones.
    """

    def __init__(self, task, split, folder, columns=("", "")):
        self._task, self._folder, self._columns = task, folder, columns
        self._split = own_data.TRAIN if split == HELD_OUT else split

    def read(self, row):
        """The encoded image of a row of predictions: bytes.

        Args:
            row: dict of str; `path`, `record` or `row` says which image.

        Raises:
            ValueError: it cannot be found.
        """
        if not self._folder and ("path" in row or not self._task.tfds):
            raise ValueError("images: give the folder of the data that the run was fine-tuned on")
        if "path" in row:
            return read_bytes(os.path.join(self._files, row["path"]))
        store, numbers = self._stored
        name = row.get("record") or row.get("row")
        if name not in numbers:
            raise ValueError(f"{self._folder}: has no single image {name} in {self._split!r}")
        [item] = store.in_order(numbers[name], numbers[name] + 1)
        return store.read(item)[0].numpy()

    @functools.cached_property
    def _place(self):
        """Where the split lies in the folder, or None."""
        if not self._folder:
            return None
        splits = own_data.find_splits(self._folder, anything=not self._task.tfds)
        return splits.get(self._split)

    @functools.cached_property
    def _files(self):
        """The folder that paths are relative to."""
        if self._place is None:
            return self._folder
        path = self._place.paths[0]
        return path if tf.io.gfile.isdir(path) else os.path.dirname(path)

    @functools.cached_property
    def _stored(self):
        """What holds the images, and the index of each by its name in predictions."""
        place = self._place
        if place is None and self._task.tfds:
            builder = tfds_data.open_builder(self._task.tfds, self._folder)
            store = tfds_data.read_images(builder, self._split)
        elif place is not None and place.form == own_data.RECORDS:
            store = ImageRecordFiles(RecordFiles.find(place.paths[0]), 1)
        elif place is not None and place.form != own_data.FOLDERS:
            store = read_images(place.tables(), *self._columns)[0]
        else:
            raise ValueError(f"{self._folder}: has no {self._split!r} in records or tables")
        names = [printable(name) for about in store.descriptions() for name in about.values()]
        counts = collections.Counter(names)
        return store, {name: n for n, name in enumerate(names) if counts[name] == 1}

"""Tasks of TensorFlow Datasets: the real readers on prepared files, and TFDS' own schemas."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from pipelines.images.image_views import ImageViews
from pipelines.tasks import tfds_data
from pipelines.tasks.labelled_images import LabelledImages

CLASSES = [f"class{n}" for n in range(10)]
OF_TFDS = {name: task for name, task in TASKS.items() if task.tfds}
TEXTS = {name: task for name, task in OF_TFDS.items() if task.kind == "text"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder in which TFDS finds a tiny CIFAR-10 of our own: image n is of class n mod 10."""
    folder = str(tmp_path_factory.mktemp("tfds"))
    version = str(tfds.builder("cifar10", data_dir=folder, try_gcs=False).version)
    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(32, 32, 3)),
        "label": tfds.features.ClassLabel(names=CLASSES),
    }
    pixels = (
        np.zeros((12, 32, 32, 3), np.uint8) + 10 * np.arange(12, dtype=np.uint8)[:, *[None] * 3]
    )
    numbers = tf.range(12, dtype=tf.int64)
    examples = {"id": tf.strings.as_string(numbers), "image": pixels, "label": numbers % 10}
    examples = tf.data.Dataset.from_tensor_slices(examples)
    tfds.dataset_builders.store_as_tfds_dataset(
        name="cifar10",
        version=version,
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": examples.take(7), "test": examples.skip(7).take(5)},
        data_dir=folder,
        disable_shuffling=True,
    )
    return folder


def test_prepared_images_are_read(prepared):
    builder = tfds_data.open_builder("cifar10", prepared)
    assert tfds_data.class_names(builder) == CLASSES
    store = tfds_data.read_images(builder, "test")
    images = LabelledImages(store, ImageViews(8, (1.0, 1.0), False, 1.0))
    batches = list(images.evaluation(1).as_numpy_iterator())
    seen = [(int(b["images"][0, 0, 0, 0]), int(b["labels"][0])) for b in batches]
    rows = builder.as_dataset(split="test", shuffle_files=False).as_numpy_iterator()
    assert seen == [(int(row["image"][0, 0, 0]), int(row["label"])) for row in rows]
    assert images.count == len(seen) == 5


def test_data_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match=f"^glue/rte is not in {tmp_path}, "):
        tfds_data.open_builder("glue/rte", str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", TEXTS)
def test_the_columns_of_glue(name, tmp_path):
    """TFDS' schema, with noise for content."""
    task = TASKS[name]
    with tfds.testing.mock_data(num_examples=6):
        builder = tfds_data.open_builder(task.tfds, str(tmp_path), download=True)
        names = tfds_data.class_names(builder)
        for split in ("train", *task.tests):
            rows = tfds_data.read_rows(builder, split, task.columns)
            assert len(rows.first) == len(rows.labels) == 6
            assert (rows.second is None) == (len(task.columns) == 1)
            assert set(rows.labels) <= set(names)
    assert len(names) == (3 if name == "mnli" else 2)
    sentences = [
        f for f, kind in builder.info.features.items() if isinstance(kind, tfds.features.Text)
    ]
    assert sorted(task.columns) == sorted(sentences)

"""Tasks of TensorFlow Datasets: the real readers on prepared files, and TFDS' own schemas."""

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from pipelines.images.image_views import ImageViews
from pipelines.tasks import tfds_data
from pipelines.tasks.labelled_images import LabelledImages

CLASSES = [f"class{n}" for n in range(10)]
TEXTS = [name for name, task in TASKS.items() if task.tfds and task.kind == "text"]


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
    numbers = tf.range(12, dtype=tf.int64)
    pixels = tf.cast(tf.broadcast_to(10 * numbers[:, *[None] * 3], (12, 32, 32, 3)), tf.uint8)
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
    assert sorted(seen) == sorted((10 * number, number % 10) for number in range(7, 12))


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
    kinds = builder.info.features.items()
    sentences = [column for column, kind in kinds if isinstance(kind, tfds.features.Text)]
    assert sorted(task.columns) == sorted(sentences)

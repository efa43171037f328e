"""Tasks of TensorFlow Datasets: the real readers on prepared files, and TFDS' own schemas."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from pipelines.images.image_views import ImageViews
from pipelines.tasks import tfds_data
from pipelines.tasks.labelled_images import LabelledImages

COUNTS = {"train": 7, "test": 5}
CLASSES = [f"class{n}" for n in range(10)]
OF_TFDS = {name: task for name, task in TASKS.items() if task.tfds}
TEXTS = {name: task for name, task in OF_TFDS.items() if task.kind == "text"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder in which TFDS finds a tiny CIFAR-10 of our own: image n is of class n mod 10."""
    folder = tmp_path_factory.mktemp("tfds")
    version = str(tfds.builder("cifar10", data_dir=str(folder), try_gcs=False).version)
    features = tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(names=CLASSES),
        }
    )

    def examples(count):
        for number in range(count):
            image = np.full((32, 32, 3), 10 * number, np.uint8)
            yield {"id": f"train_{number}", "image": image, "label": number % 10}

    signature = {
        "id": tf.TensorSpec((), tf.string),
        "image": tf.TensorSpec((32, 32, 3), tf.uint8),
        "label": tf.TensorSpec((), tf.int64),
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="cifar10",
        version=version,
        features=features,
        split_datasets={
            split: tf.data.Dataset.from_generator(
                lambda count=count: examples(count), output_signature=signature
            )
            for split, count in COUNTS.items()
        },
        data_dir=str(folder),
        disable_shuffling=True,
    )
    return str(folder)


@pytest.mark.parametrize("split", COUNTS)
def test_prepared_images_are_read(prepared, split):
    builder = tfds_data.open_builder("cifar10", prepared)
    assert tfds_data.class_names(builder) == CLASSES
    store = tfds_data.read_images(builder, split)
    images = LabelledImages(store, ImageViews(8, (1.0, 1.0), False, 1.0))
    assert images.count == COUNTS[split]
    seen = [
        (int(image[0, 0, 0]), int(label))
        for batch in images.evaluation(2).as_numpy_iterator()
        for image, label, weight in zip(
            batch["images"], batch["labels"], batch["weights"], strict=True
        )
        if weight
    ]
    wanted = [
        (int(row["image"][0, 0, 0]), int(row["label"]))
        for row in builder.as_dataset(split=split, shuffle_files=False).as_numpy_iterator()
    ]
    assert seen == wanted


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

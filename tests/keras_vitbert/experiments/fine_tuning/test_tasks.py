"""The downstream tasks, against the metadata of TFDS."""

import pytest
import tensorflow_datasets as tfds

from keras_vitbert.experiments.fine_tuning.tasks import TASKS


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.tfds])
def test_classes_and_sentences_of_tfds(name, tmp_path):
    task = TASKS[name]
    features = tfds.builder(task.tfds, data_dir=str(tmp_path)).info.features
    assert features["label"].num_classes == task.num_classes
    assert ("image" in features) == (task.kind == "images")
    assert all(isinstance(features[column], tfds.features.Text) for column in task.columns)
    assert (len(task.columns) in (1, 2)) == (task.kind == "text")
    assert task.tests and task.selection not in task.tests

"""The downstream tasks, against the metadata of TFDS."""

import pytest
import tensorflow_datasets as tfds

from keras_vitbert.experiments.fine_tuning.tasks import TASKS, find_task


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.tfds])
def test_classes_and_sentences_of_tfds(name, tmp_path):
    task = TASKS[name]
    features = tfds.builder(task.tfds, data_dir=str(tmp_path)).info.features
    assert features["label"].num_classes == task.num_classes
    assert ("image" in features) == (task.kind == "images")
    assert all(isinstance(features[column], tfds.features.Text) for column in task.columns)
    assert (len(task.columns) in (1, 2)) == (task.kind == "text")
    assert task.tests and task.selection not in task.tests


def test_a_task_is_found_by_its_name():
    assert find_task("rte") is TASKS["rte"] and find_task("rte").name == "rte"
    with pytest.raises(ValueError, match=r"mnl\b.*mnli\?"):
        find_task("mnl")

"""The steps of a run without data: their batches and their memory."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs import fine_tuning
from keras_vitbert.configs.devices import Devices
from keras_vitbert.experiments.fine_tuning.pretrained import RANDOM, Pretrained
from keras_vitbert.experiments.fine_tuning.task_data import open_task
from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from keras_vitbert.experiments.fine_tuning.trials import TaskStream
from keras_vitbert.experiments.pretraining.data import open_data
from keras_vitbert.extras.ahead_of_time import programs as run_programs
from keras_vitbert.model.pretraining_network import build_network
from tests.keras_vitbert.tiny_runs import VOCABULARY, config_of


@pytest.mark.parametrize(
    "mixing",
    [
        [],
        ["--config.data.images.augmentations={'class_name': 'RandomFlip'}"],
    ],
)
def test_the_batches_are_those_of_the_streams(sources, mixing):
    """Shapes and types of the compiled batches, checked against those of the streams."""
    config = config_of(sources, *mixing, variant="joint")
    stream = open_data(config).stream(config)
    masking = {"data.text.masking.max_predictions": 3, "data.text.masking.ratio": 0.5}
    config = config.with_values({"model.max_sequence_length": stream.texts.length, **masking})
    programs = run_programs.pretraining_programs(config, tf.distribute.get_strategy())
    batches = {program.name: program.batch for program in programs.steps}
    assert list(batches) == ["train", "probe", "validate"]
    assert batches["train"] == batches["probe"] == stream.training().element_spec
    assert batches["validate"] == stream.validation().element_spec
    assert all(spec.shape.is_fully_defined() for spec in batches["train"].values())


def fine_tuning_batches(task, folder, model, **changes):
    """(compiled batch, batch of the stream) of training and of evaluation.

    Without what streams tell of examples and no step reads.
    """
    task = TASKS[task]
    values = {"batch": 4, "evaluation_batch": 4, "steps": 3, **changes}
    config = fine_tuning.get_config(task.name, task.kind).with_values(values)
    config = config.for_devices(Devices())
    data = open_task(task, config, VOCABULARY, model["max_sequence_length"], str(folder))
    pretrained = Pretrained(RANDOM, "x", 0, "sha", model, None, None)
    programs = run_programs.fine_tuning_programs(
        config, pretrained, len(data.classes), tf.distribute.get_strategy()
    )
    train, evaluate = programs.steps
    assert (train.name, evaluate.name) == ("train", "evaluate")
    given = TaskStream(data.train, 0, 3, 4).training(0, None).element_spec
    evaluated = data.tests["validation"].evaluation(4, None).element_spec
    for unread in ("numbers", "weights"):
        if not changes.get("images.augmentations"):
            given.pop(unread, None)
    evaluated.pop("weights")
    return (train.batch, given), (evaluate.batch, evaluated)


@pytest.mark.parametrize(
    "views", [{"images.mixup": 0.2}, {"images.augmentations": ({"class_name": "RandomFlip"},)}]
)
def test_the_images_of_fine_tuning_are_those_of_the_streams(sources, image_task, views):
    model = config_of(sources).model.to_dict()
    changes = {"image_size": 12, **views}
    for ours, stream in fine_tuning_batches("images", image_task, model, **changes):
        assert ours == stream
        assert ours["images"].shape == (4, 12, 12, 3)


def test_the_texts_of_fine_tuning_are_those_of_the_streams(sources, text_task):
    """Except for their length, which depends on the data: the longest is compiled."""
    model = config_of(sources).model.to_dict()
    for ours, stream in fine_tuning_batches("texts", text_task, model, bucket_boundaries=(8,)):
        assert set(ours) == set(stream)
        assert all(stream[name].is_compatible_with(spec) for name, spec in ours.items())
        assert ours["token_ids"].shape == (4, model["max_sequence_length"])


@pytest.mark.slow
def test_teachers_are_in_memory_too(sources):
    def resident(name):
        config = config_of(sources, variant=name)
        programs = run_programs.pretraining_programs(config, tf.distribute.get_strategy())
        return programs.resident_bytes()

    model = config_of(sources).model.to_dict()
    teachers = build_network(model, text=False), build_network(model, images=False)
    expected = sum(np.asarray(v).nbytes for teacher in teachers for v in teacher.variables)
    assert resident("vitbert") - resident("vitbert_no_kd") == expected

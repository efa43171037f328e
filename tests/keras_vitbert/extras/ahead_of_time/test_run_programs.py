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

FLIP = {"class_name": "RandomFlip"}


def test_the_batches_and_the_memory_of_a_pretraining(sources):
    """Shapes and types of the compiled batches are those of the streams; teachers take memory."""
    config = config_of(sources, f"--config.data.images.augmentations={FLIP}", variant="vitbert")
    stream = open_data(config).stream(config)
    masking = {"data.text.masking.max_predictions": 3, "data.text.masking.ratio": 0.5}
    config = config.with_values({"model.max_sequence_length": stream.texts.length, **masking})
    programs = run_programs.pretraining_programs(config, tf.distribute.get_strategy())
    batches = {program.name: program.batch for program in programs.steps}
    assert list(batches) == ["train", "mask update", "validate"]
    assert batches["train"] == batches["mask update"] == stream.training().element_spec
    assert batches["validate"] == stream.validation().element_spec
    assert all(spec.shape.is_fully_defined() for spec in batches["train"].values())

    sizes, trainer = config.model.to_dict(), programs.trainer
    teachers = build_network(sizes, text=False), build_network(sizes, images=False)
    held = [*trainer.state_variables.values(), trainer.optimizer.variables]
    held += [teacher.variables for teacher in teachers]
    bytes_ = sum(np.asarray(v).nbytes for variables in held for v in variables)
    assert programs.resident_bytes() == bytes_


def fine_tuning_batches(task, folder, model, **changes):
    """(compiled batch, batch of the stream) of training and of evaluation."""
    task = TASKS[task]
    values = {"batch": 4, "evaluation_batch": 4, "steps": 3, **changes}
    config = fine_tuning.get_config(task.name, task.kind).with_values(values)
    config = config.for_devices(Devices())
    data = open_task(task, config, VOCABULARY, model["max_sequence_length"], str(folder))
    pretrained = Pretrained(RANDOM, "x", 0, "sha", model, None, None)
    programs = run_programs.fine_tuning_programs(
        config, pretrained, [len(data.classes)], tf.distribute.get_strategy()
    )
    train, evaluate = programs.steps
    assert (train.name, evaluate.name) == ("train", "evaluate")
    given = TaskStream([data.train], [4], 0, 3).training(0, None).element_spec
    evaluated = data.tests["validation"].evaluation(4, None).element_spec
    for batch in (given, evaluated):
        batch.pop("weights", None)  # which no step reads
    return (train.batch, given), (evaluate.batch, evaluated)


@pytest.mark.parametrize("task", ["images", "texts"])
def test_the_batches_of_fine_tuning_are_those_of_the_streams(sources, request, task):
    """Except for the length of texts, which depends on the data: the longest is compiled."""
    folder, model = request.getfixturevalue(f"{task[:-1]}_task"), config_of(sources).model.to_dict()
    changes = {"image_size": 12, "images.mixup": 0.2, "images.augmentations": (FLIP,)}
    if task == "texts":
        changes = {"bucket_boundaries": (8,)}
    for ours, stream in fine_tuning_batches(task, folder, model, **changes):
        if task == "texts":
            assert ours["token_ids"].shape == (4, model["max_sequence_length"])
            stream.pop("numbers", None)
            ours.pop("numbers", None)
        assert set(ours) == set(stream)
        assert all(stream[name].is_compatible_with(spec) for name, spec in ours.items())

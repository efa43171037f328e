"""Evaluates and trains classifiers on 1, 2 and 4 logical CPUs, for `test_finetune`.

For a process of its own, as TensorFlow's devices are set once a process.
"""

import functools
import json
import os

import numpy as np
import tensorflow as tf

from keras_vitbert.configs import fine_tuning
from keras_vitbert.experiments.fine_tuning.evaluation import Evaluator
from keras_vitbert.experiments.fine_tuning.predictions import prediction_rows
from keras_vitbert.experiments.fine_tuning.task_data import open_task
from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from keras_vitbert.experiments.fine_tuning.trainer import build_optimizer
from keras_vitbert.experiments.fine_tuning.trials import TaskStream
from keras_vitbert.runs.identity import config_of
from keras_vitbert.trained.loading import load
from keras_vitbert.training.fine_tuner import FineTuner
from keras_vitbert.training.optimizers import WeightAverages
from pipelines.text.wordpiece import read_vocabulary
from tests.keras_vitbert.training.replicas_script import set_devices

STEPS, BATCH = 4, 8


@functools.cache  # TensorFlow mixes up the sums of two strategies on the same devices
def strategy_of(replicas):
    if replicas == 1:
        return tf.distribute.OneDeviceStrategy("CPU:0")
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])


def values(network):
    weights = [np.asarray(v.value).ravel() for v in network.trainable_variables]
    return np.concatenate(weights).tolist()


def found_of(run, data_dir):
    found = {}
    for replicas in (1, 2, 4):
        strategy = strategy_of(replicas)
        with strategy.scope():
            model = load(run)
            network, record = model.network, model.record
        config = config_of(record)
        vocabulary = None
        if config.kind == "text":
            vocabulary = read_vocabulary(os.path.join(run, "vocabulary.txt"))
        length = record["model"]["max_sequence_length"]
        data = open_task(TASKS[config.task], config, vocabulary, length, data_dir)
        # Batches that do not come out even, on any number of replicas.
        predictions = Evaluator(network, strategy, 4).predict(data.tests["validation"])
        rows = prediction_rows({"validation": predictions}, data.tests, data.classes)
        found[replicas] = {
            "labels": [row["label"] for row in rows],
            "predictions": [row["prediction"] for row in rows],
            "losses": predictions.losses.tolist(),
        }
        if replicas < 4:
            found["before"] = values(network)
            found[f"trained_{replicas}"] = trained(network, data.train, strategy)
    return found


def trained(network, split, strategy):
    """The weights after a few steps with dropout and a clip that acts."""
    with strategy.scope():
        tuner = FineTuner(network, clip_norm=0.3)
        settings = {"learning_rate": 0.05}
        kind = "text" if network.modality == "text" else "images"
        # Plain SGD on images; on text AdamW, with everything that could depend on replicas.
        if network.modality == "text":
            settings |= {"layer_decay": 0.5, "weight_decay": 0.2, "ema": 0.6, "epsilon": 1e-3}
        config = fine_tuning.get_config("", kind).optimizer.with_values(settings)
        tuner.compile(build_optimizer(config, STEPS, network))
    stream = TaskStream([split], [BATCH], 0, STEPS)
    dataset = strategy.distribute_datasets_from_function(
        lambda context: stream.training(0, context)
    )
    average = WeightAverages(STEPS)
    tuner.fit(dataset, steps_per_epoch=STEPS, callbacks=[average], shuffle=False, verbose=0)
    return values(network)


def main(path, image_run, image_data, text_run, text_data):
    """Writes a JSON file of what is found."""
    set_devices(4)
    found = {"images": found_of(image_run, image_data), "text": found_of(text_run, text_data)}
    with open(path, "w") as file:
        json.dump(found, file)

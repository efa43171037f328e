"""Checkpoints of slices: processes that write them, and one that reads them on other devices.

KERAS_BACKEND=jax TF_CONFIG=... python -m tests.keras_vitbert.runs.sharded_script write FOLDER
KERAS_BACKEND=jax python -m tests.keras_vitbert.runs.sharded_script read FOLDER

They print a JSON object; those that write are killed before the chief completes a checkpoint.
"""

import json
import os
import pathlib
import signal
import sys
import types

import keras
import numpy as np

from keras_vitbert.runs import checkpoints
from keras_vitbert.runs.callbacks import Checkpoints
from keras_vitbert.runs.machine import Workers
from keras_vitbert.training.anomaly_guard import AnomalyGuard
from tpu.devices import new_weights
from tpu.strategy import get_strategy

# Eight devices divide the first three, along either axis.
SHAPES = {
    "rows": ((512, 32), "float32"),
    "columns": ((32, 512), "float32"),
    "signs": ((512, 32), "int8"),
    "bias": ((5,), "float32"),
}


def values_at(step):
    rng = np.random.default_rng(step)
    return {
        name: (100 * rng.normal(size=shape)).astype(dtype)
        for name, (shape, dtype) in SHAPES.items()
    }


class Trainer:
    """As much of a trainer as checkpoints look at."""

    def __init__(self, strategy):
        self.distribute_strategy, self.step, self.stop_training = strategy, 0, False
        with new_weights(strategy):
            self.weights = [
                keras.Variable(initializer="zeros", shape=shape, dtype=dtype, name=name)
                for name, (shape, dtype) in SHAPES.items()
            ]
            self.optimizer = keras.optimizers.SGD(0.1)
            self.optimizer.build([])
        self.anomaly_guard = AnomalyGuard(name="step_check")

    @property
    def state_variables(self):
        return {"network": self.weights, "metrics": [], "step_check": self.anomaly_guard.variables}

    def train(self, step):
        """Goes to a step, which decides all values."""
        self.step = step
        self.optimizer.iterations.assign(step)
        for variable, value in zip(self.weights, values_at(step).values(), strict=True):
            variable.assign(value)

    def is_at(self, step):
        """Whether this process' slices are those of a step."""
        return self.step == step and all(
            np.array_equal(np.asarray(shard.data), value[shard.index])
            for variable, value in zip(self.weights, values_at(step).values(), strict=True)
            for shard in variable.value.addressable_shards
        )


def failure(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def write(folder, keeper, trainer, workers):
    found = {"shares": [v.value.addressable_shards[0].data.size for v in trainer.weights]}
    for step in (3, 6):
        trainer.train(step)
        keeper.save(trainer)
        while keeper._taken is not None:
            keeper.check()
    if workers.is_chief:
        (folder / "step-00000006" / "state.data-00001-of-00002").unlink()
    workers.wait()
    checkpoints.restore_newest(str(folder), trainer, workers.is_chief, workers.any_asks)
    found["after a missing shard"] = trainer.is_at(3)
    trainer.train(9)
    written = checkpoints._save
    if not workers.is_chief:
        checkpoints._save = full
    keeper.save(trainer)
    found["full"] = failure(keeper.wait)
    checkpoints._save = written
    found["last"] = (folder / "LAST").read_text()
    trainer.train(12)
    checkpoints.write_state(str(folder), checkpoints.snapshot(trainer))
    workers.wait()
    print(json.dumps(found), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def full(*_):
    raise OSError(28, "No space left on device")


def read(folder, trainer):
    steps = {"after a kill": checkpoints.restore_newest(str(folder), trainer)}
    print(json.dumps(steps | {"same": trainer.is_at(3)}))


def main(command, folder):
    folder = pathlib.Path(folder)
    strategy = get_strategy(sharding="fsdp")
    trainer = Trainer(strategy)
    if command == "read":
        return read(folder, trainer)
    workers = Workers(strategy)
    run = types.SimpleNamespace(
        config=types.SimpleNamespace(checkpoints_to_keep=2),
        folder=types.SimpleNamespace(checkpoints=str(folder)),
        workers=workers,
    )
    return write(folder, Checkpoints(run), trainer, workers)


if __name__ == "__main__":
    main(*sys.argv[1:])

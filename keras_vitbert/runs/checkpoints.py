"""Checkpoints named by step, and a pointer to the last complete one.

`checkpoints/step-00000500/state.*` is written first; then a rename replaces `checkpoints/LAST`. A
run that is killed in between leaves a folder that nothing points to, and the next run overwrites
it: a half-written checkpoint is never loaded.

A checkpoint holds everything that determines the rest of the run: weights, random states,
optimiser, masks, the training metrics of the unfinished epoch, and the step, which determines the
position in the data and in the schedules.
"""

import contextlib
import json
import os
import re

import tensorflow as tf

from pipelines.command_line import UserError
from pipelines.files import write_atomically

POINTER = "LAST"


def save(folder, trainer, keep, workers=None):
    """Writes a checkpoint of a `BaseTrainer` and removes old ones.

    Args:
        folder: str, the run's `checkpoints` folder.
        trainer: `keras_vitbert.training.base_trainer.BaseTrainer`.
        keep: int >= 1, how many checkpoints are kept.
        workers: `Workers`, all of which must call this; the chief's checkpoint is kept. None for a
            single process.
    """
    name = f"step-{trainer.step:08d}"
    path = os.path.join(folder, name)
    # Reading metrics sums them over all processes, so the others save too, to a scratch folder.
    with workers.scratch(path) if workers else contextlib.nullcontext(path) as target:
        tf.io.gfile.makedirs(target)
        state = tf.train.Checkpoint(**_state(trainer))
        state.write(os.path.join(target, "state"), _io_options(trainer.distribute_strategy))
    if workers and not workers.is_chief:
        return
    write_atomically(os.path.join(path, "step.json"), json.dumps({"step": trainer.step}))
    write_atomically(os.path.join(folder, POINTER), name + "\n")
    for old in sorted(_steps(folder))[:-keep]:
        if old != name:
            tf.io.gfile.rmtree(os.path.join(folder, old))


def latest(folder):
    """Finds the last complete checkpoint.

    Args:
        folder: str, the run's `checkpoints` folder.

    Returns:
        (path, step); (None, 0) if there is none.

    Raises:
        UserError: the pointer names a checkpoint that is missing or incomplete.
    """
    pointer = os.path.join(folder, POINTER)
    if not tf.io.gfile.exists(pointer):
        return None, 0
    with tf.io.gfile.GFile(pointer) as file:
        path = os.path.join(folder, file.read().strip())
    try:
        with tf.io.gfile.GFile(os.path.join(path, "step.json")) as file:
            return path, json.load(file)["step"]
    except (tf.errors.OpError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{pointer} names {path}, which is not a complete checkpoint; write the name of "
            "another checkpoint into it, or remove it to start again"
        ) from error


def restore(path, trainer):
    """Loads a checkpoint into a trainer; it must match the trainer exactly.

    Args:
        path: str, of the checkpoint's folder.
        trainer: `BaseTrainer`.

    Raises:
        UserError: the checkpoint is damaged or belongs to another model.
    """
    _read(path, _state(trainer), whole=True)
    with tf.io.gfile.GFile(os.path.join(path, "step.json")) as file:
        trainer.step = json.load(file)["step"]


def restore_network(path, network):
    """Loads the network's weights from a checkpoint, without the training state.

    Args:
        path: str, of the checkpoint's folder.
        network: Keras model.

    Raises:
        UserError: the checkpoint is damaged or belongs to another model.
    """
    _read(path, {"network": _by_path(network.weights)}, whole=False)
    # A part of a network answers too, but wrongly.
    stored = tf.train.load_checkpoint(os.path.join(path, "state")).get_variable_to_shape_map()
    count = sum(name.startswith("network/") for name in stored)
    if count != len(network.variables):
        raise UserError(
            f"{path} holds {count} variables of a network, the model of its config.json has "
            f"{len(network.variables)}; restore config.json"
        )


def _read(path, state, whole):
    """Reads all of `state`; with `whole`, the checkpoint must hold nothing else."""
    try:
        options = _io_options(tf.distribute.get_strategy())
        status = tf.train.Checkpoint(**state).read(os.path.join(path, "state"), options)
        if whole:
            status.assert_consumed()
        else:
            status.assert_existing_objects_matched().expect_partial()
    except (tf.errors.OpError, ValueError, IndexError, RuntimeError, AssertionError) as error:
        reason = "other variables" if isinstance(error, AssertionError) else error
        raise UserError(
            f"{path} cannot be loaded into this model ({reason}); it is damaged or belongs to "
            "another model"
        ) from error


def _io_options(strategy):
    """Makes this machine read and write local files, not the hosts of a TPU."""
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return tf.train.CheckpointOptions(experimental_io_device="/job:localhost")
    return None


def _state(trainer):
    state = {name: _by_path(variables) for name, variables in trainer.state_variables.items()}
    state["optimizer"] = _by_path(trainer.optimizer.variables, trainer.optimizer.name)
    return state


def _by_path(variables, owner=""):
    """Variables by a path that is the same in every process.

    Keras numbers random generators and optimisers across all models of a process. So the name of
    the `owner` and the numbers of generators are left out; the generators of one layer are
    distinguished by their order.
    """
    by_path = {}
    for variable in variables:
        path = variable.path.removeprefix(f"{owner}/")
        path = stem = re.sub(r"seed_generator_\d+", "seed_generator", path)
        number = 1
        while path in by_path:
            number += 1
            path = f"{stem}#{number}"
        by_path[path] = variable.value
    return by_path


def _steps(folder):
    return [
        name.rstrip("/")
        for name in tf.io.gfile.listdir(folder)
        if re.fullmatch(r"step-\d+/?", name)
    ]

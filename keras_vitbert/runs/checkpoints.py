"""Checkpoints named by step, and pointers to the last complete one and to the last good one.

`checkpoints/step-00000500/state.*` is written first; then a rename replaces `checkpoints/LAST`. A
run that is killed in between leaves a folder that nothing points to, and the next run overwrites
it: a half-written checkpoint is never loaded.

`checkpoints/GOOD` names the newest one that training has shown to be good: either validation with
its weights (not with their averages) gave a loss like the others, or the steps from it to the next
checkpoint, at least the last `STEPS_TO_SHOW`, were good (see `keras_vitbert.training.step_check`).
Steps after training went back say nothing about the checkpoints that it left. The good one is kept
in addition to the newest ones.

A checkpoint holds everything that determines the rest of the run: weights, random states,
optimiser, masks, the training metrics of the unfinished epoch, and the step, which determines the
position in the data and in the schedules.
"""

import contextlib
import dataclasses
import json
import os
import re

import numpy as np
import tensorflow as tf

from pipelines.command_line import one_line, say
from pipelines.files import json_object, write_atomically
from tpu.devices import host_values

POINTER, GOOD = "LAST", "GOOD"
STEPS_TO_SHOW = 20


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What a checkpoint holds, in this machine's memory: training may continue during the write.

    Attributes:
        step: int.
        values: dict of a part of the state to a dict of a variable's name to an array.
        in_a_row: int, good steps since the last bad one.
        restores: int, how often training went back to a good checkpoint.
        validated: bool, whether a validation has shown that the weights are good.
    """

    step: int
    values: dict[str, dict[str, np.ndarray]]
    in_a_row: int
    restores: int
    validated: bool


def snapshot(trainer, validated=False):
    """The state of a `BaseTrainer`; with several processes, all of them must call this.

    Args:
        trainer: `keras_vitbert.training.base_trainer.BaseTrainer`.
        validated: see `Snapshot`.

    Returns:
        `Snapshot`.
    """
    values = {
        part: {name: host_values(variable) for name, variable in variables.items()}
        for part, variables in _state(trainer).items()
    }
    counts = (int(values["step_check"][f"step_check/{n}"]) for n in ("in_a_row", "restores"))
    return Snapshot(trainer.step, values, *counts, validated)


def save(folder, trainer, keep, validated=False):
    """Writes a checkpoint of a `BaseTrainer` and removes old ones.

    Args:
        folder, keep: see `write`.
        trainer, validated: see `snapshot`.
    """
    write(folder, snapshot(trainer, validated), keep)


def write(folder, taken, keep):
    """Writes a checkpoint and removes old ones.

    Args:
        folder: str, the run's `checkpoints` folder.
        taken: `Snapshot`.
        keep: int >= 1, how many checkpoints are kept.
    """
    name = _write(folder, taken.step, taken.values)
    # Training may have gone back: later ones are of a future that it has left.
    steps = sorted(step for step in _steps(folder) if step <= name)
    before = _pointed(folder, POINTER)
    write_atomically(os.path.join(folder, POINTER), name + "\n")
    if taken.validated:
        write_atomically(os.path.join(folder, GOOD), name + "\n")
    elif before in steps and before != name:
        passed = taken.step - int(before.removeprefix("step-"))
        went_back = _restores(os.path.join(folder, before)) != taken.restores
        if taken.in_a_row >= min(passed, STEPS_TO_SHOW) and not went_back:
            write_atomically(os.path.join(folder, GOOD), before + "\n")
    kept = {name, _pointed(folder, GOOD)}
    for old in steps[:-keep]:
        if old not in kept:
            tf.io.gfile.rmtree(os.path.join(folder, old))


def _restores(path):
    """How often training had gone back before a checkpoint: int, or None if it is damaged."""
    try:
        return int(_open(path).get_tensor(_key("step_check", "step_check/restores")))
    except (tf.errors.OpError, ValueError, RuntimeError):
        return None  # damaged


def write_weights(folder, network, step, dtype="float32"):
    """Writes a checkpoint of weights alone, from which no run can resume.

    Args:
        folder: str, a run's `checkpoints` folder.
        network: Keras model with float32 variables.
        step: int, the step of these weights.
        dtype: str, `float32` or `bfloat16`, to which they are rounded; `restore_network` reads them
            into float32 variables.
    """
    values = {
        name: tf.cast(host_values(v), dtype if v.dtype == "float32" else v.dtype)
        for name, v in _by_path(network.variables).items()
    }
    name = _write(folder, step, {"network": values})
    write_atomically(os.path.join(folder, POINTER), name + "\n")


def _write(folder, step, values):
    """Writes the content of a checkpoint and returns its name; no pointer names it yet."""
    name = _name(step)
    path = os.path.join(folder, name)
    tf.io.gfile.makedirs(path)
    for place in (folder, path):
        for file in tf.io.gfile.listdir(place):
            if re.search(r"\.(tempstate|tmp-)\w+$", file):  # of a run that was killed
                tf.io.gfile.remove(os.path.join(place, file))
    state = {_key(part, n): value for part, named in values.items() for n, value in named.items()}
    state = dict(sorted(state.items()))  # their order in the file, see `_read`
    with tf.device("CPU:0"):  # this machine's, not that of a TPU's host
        tf.raw_ops.SaveV2(
            prefix=os.path.join(path, "state"),
            tensor_names=list(state),
            shape_and_slices=[""] * len(state),
            tensors=list(state.values()),
        )
    write_atomically(os.path.join(path, "step.json"), json.dumps({"step": step}))
    return name


def latest(folder):
    """Finds the last complete checkpoint.

    Args:
        folder: str, the run's `checkpoints` folder.

    Returns:
        (path, step); (None, 0) if there is none.

    Raises:
        ValueError: the pointer names a checkpoint that is missing or incomplete.
    """
    pointer = os.path.join(folder, POINTER)
    if not tf.io.gfile.exists(pointer):
        return None, 0
    path = "an unreadable path"
    try:
        with tf.io.gfile.GFile(pointer) as file:
            path = os.path.join(folder, file.read().strip())
        return path, _step(path)
    except (tf.errors.OpError, ValueError, KeyError) as error:
        raise ValueError(
            f"{pointer} names {path}, which is not a complete checkpoint; write the name of "
            "another checkpoint into it, or remove it to start again"
        ) from error


def _pointed(folder, pointer):
    """The name in a pointer; empty if there is none, or if it cannot be read."""
    try:
        with tf.io.gfile.GFile(os.path.join(folder, pointer)) as file:
            return file.read().strip()
    except (tf.errors.OpError, UnicodeDecodeError):
        return ""


def restore_newest(folder, trainer, writes=True):
    """Loads the last complete checkpoint or, if it is damaged, the newest one before it.

    `LAST` then names the one that was loaded, and `GOOD` no later one.

    Args:
        folder: str, the run's `checkpoints` folder.
        trainer: `BaseTrainer`.
        writes: bool, whether this process writes the pointers.

    Returns:
        int, the step; 0 if there is no checkpoint.

    Raises:
        ValueError: there are checkpoints, but none is intact.
    """
    step = _restore_newest(folder, trainer, writes)
    if writes and _pointed(folder, GOOD) > _name(step):  # damaged, or of a future that is left
        tf.io.gfile.remove(os.path.join(folder, GOOD))
    return step


def _restore_newest(folder, trainer, writes):
    if not tf.io.gfile.exists(os.path.join(folder, POINTER)):
        return 0
    last, error = _pointed(folder, POINTER), None
    names = sorted(_steps(folder), reverse=True)
    is_step = last in names
    if is_step:
        names = [name for name in names if name < last]
    try:
        latest(folder)
        names = [last, *names]
    except ValueError as incomplete:
        error = incomplete
    for name in names:
        try:
            restore(os.path.join(folder, name), trainer)
        except ValueError as damage:
            error = error or damage
            continue
        if error is not None:
            lost = "the newest"
            if is_step:
                lost = f"{int(last.removeprefix('step-')) - trainer.step} steps earlier"
            say(f"{str(error).partition(';')[0]}; resuming from {name}, {lost}")
            if writes:
                write_atomically(os.path.join(folder, POINTER), name + "\n")
        return trainer.step
    raise error


def go_back(folder, trainer):
    """Loads the last good checkpoint's weights, moments and masks; training continues after it.

    The step, the metrics and the counts stay: data and schedules continue.

    Args:
        folder: str, the run's `checkpoints` folder.
        trainer: `BaseTrainer`.

    Returns:
        str, the checkpoint's name; empty if no checkpoint has been shown to be good.

    Raises:
        ValueError: it is damaged.
    """
    name = _pointed(folder, GOOD)
    if name not in _steps(folder):
        return ""
    whole, check = _state(trainer), trainer.step_check
    state = {part: dict(variables) for part, variables in whole.items() if part != "metrics"}
    del state["optimizer"]["iteration"]
    for counted in ("bad_steps", "restores"):
        del state["step_check"][f"step_check/{counted}"]
    _read(os.path.join(folder, name), state, whole)
    check.restores.assign(check.restores.value + 1)
    check.in_a_row.assign(0)
    return name


def restore(path, trainer):
    """Loads a checkpoint into a trainer; it must match the trainer exactly.

    Args:
        path: str, of the checkpoint's folder.
        trainer: `BaseTrainer`.

    Raises:
        ValueError: the checkpoint is damaged or belongs to another model.
    """
    state = _state(trainer)
    with _telling(path):
        step = _step(path)
    _read(path, state, state)
    with _telling(path):
        done = int(trainer.optimizer.iterations.numpy())
        if done != step:
            raise ValueError(
                f"its step.json is from step {step}, but its weights are from step {done}"
            )
    trainer.step = step


def restore_network(path, network):
    """Loads the network's weights from a checkpoint, without the training state.

    Args:
        path: str, of the checkpoint's folder.
        network: Keras model.

    Raises:
        ValueError: the checkpoint is damaged or belongs to another model.
    """
    whole = {"network": _by_path(network.variables)}
    _read(path, {"network": _by_path(network.weights)}, whole)


def _open(path):
    return tf.train.load_checkpoint(os.path.join(path, "state"))


def _shapes(reader, parts):
    """The shapes, by name, of the variables in some parts of a checkpoint."""
    stored = reader.get_variable_to_shape_map()
    return {name: shape for name, shape in stored.items() if name.split("/")[0] in parts}


def _read(path, state, whole):
    """Reads `state`, which is all or a part of `whole`; the checkpoint must match `whole`."""
    with _telling(path):
        reader = _open(path)
        stored = _shapes(reader, whole)
    if len(whole) > 1 and all(name.startswith("network/") for name in stored):
        raise ValueError(
            f"{path}: holds weights but no training state, so no run can resume from it; give it "
            "as initial_weights of a new run"
        )
    wanted = {
        _key(part, name): list(variable.shape)
        for part, variables in whole.items()
        for name, variable in variables.items()
    }
    with _telling(path):
        for name in sorted(stored.keys() | wanted.keys()):
            ours, theirs = wanted.get(name, "none"), stored.get(name, "none")
            if ours != theirs:
                variable = name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE").replace(".S", "/")
                raise ValueError(f"{variable}: its shape is {theirs}, in the model {ours}")
        values = {
            part: {name: reader.get_tensor(_key(part, name)) for name in variables}
            for part, variables in state.items()
        }
        # Always reads the last variable in the file: this fails if the file was cut off.
        reader.get_tensor(max(reader.get_variable_to_shape_map()))
    for part, variables in state.items():
        for name, variable in variables.items():
            variable.assign(values[part].pop(name))


def _key(part, name):
    """TensorFlow's name for a variable of a part in a checkpoint."""
    name = name.replace(".", "..").replace("/", ".S")
    return f"{part}/{name}/.ATTRIBUTES/VARIABLE_VALUE"


@contextlib.contextmanager
def _telling(path):
    """Turns the errors of reading a checkpoint into one that says what to do."""
    try:
        yield
    except (tf.errors.OpError, ValueError, IndexError, RuntimeError, AssertionError) as error:
        folder, name = os.path.split(path)
        others = sorted(set(_steps(folder)) - {name})
        fix = f": write the name of another one, such as {others[-1]}, into " if others else ""
        raise ValueError(
            f"{path} cannot be loaded into this model ({one_line(error)}); it is damaged or "
            f"belongs to another model{fix and fix + os.path.join(folder, POINTER)}"
        ) from error


def _step(path):
    with tf.io.gfile.GFile(os.path.join(path, "step.json"), "rb") as file:
        step = json_object(file.read())["step"]
    if type(step) is not int:
        raise ValueError(f"step.json has {step!r}")
    return step


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
        by_path[path] = variable
    return by_path


def _name(step):
    return f"step-{step:08d}"


def _steps(folder):
    return [
        name.rstrip("/")
        for name in tf.io.gfile.listdir(folder)
        if re.fullmatch(r"step-\d+/?", name)
    ]

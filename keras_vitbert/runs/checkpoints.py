"""Checkpoints named by step, and pointers to the last complete one and to the last good one.

`checkpoints/step-00000500/state.*` is written first; then a rename replaces `checkpoints/LAST`. A
run that is killed in between leaves a folder that nothing points to, and the next run overwrites
it: a half-written checkpoint is never loaded.

Where devices have slices of the weights (`fsdp`), each process writes those of its own devices to
`step-00000500/parts`, in TensorFlow's sharded format. Once all have, the chief makes `state.*` of
the parts. A process reads the slices that it needs, however many have written.

`checkpoints/GOOD` names the newest one that training has shown to be good: either validation with
its weights (not with their averages) gave a loss like the others, or the steps from it to the next
checkpoint, at least the last `STEPS_TO_SHOW`, were good (`training.anomaly_guard`).
Steps after training went back say nothing about the checkpoints that it left. The good one is kept
in addition to the newest ones.

A checkpoint holds everything that determines the rest of the run: weights, random states,
optimiser, masks, the training metrics of the unfinished epoch, and the step, which determines the
position in the data and in the schedules.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from pipelines.command_line import one_line, say
from pipelines.files import json_object, write_atomically
from tpu.devices import assign_slices, host_slices, host_values, is_sharded

if TYPE_CHECKING:
    from keras_vitbert.training.base_trainer import BaseTrainer

Sections = dict[str, dict[str, Any]]  # Keras variables by section of the state, and path
Slices = list[tuple[str, Any]]  # `shape_and_slice` of `tf.raw_ops.SaveV2`, and values

POINTER, GOOD, PARTS = "LAST", "GOOD", "parts"
STEPS_TO_SHOW = 20


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What a checkpoint holds, in this machine's memory: training may continue during the write.

    If devices have slices of the weights, it holds those of this process.
    """

    step: int
    values: dict[str, Slices]  # by key in the file
    validated: bool  # whether a validation has shown that the weights are good
    # The number of this process and of all, if each of them writes its slices; else the chief
    # writes everything.
    part: tuple[int, int] | None = None

    def count(self, name: str) -> int:
        """A count of the step check: `in_a_row`, or `restores`."""
        [(_, value)] = self.values[_key("step_check", f"step_check/{name}")]
        return int(value)


def snapshot(trainer: BaseTrainer, validated: bool = False) -> Snapshot:
    """The state of a `BaseTrainer`; with several processes, all of them must call this."""
    state = _state(trainer)
    variables = {
        _key(section, name): variable
        for section, by_path in state.items()
        for name, variable in by_path.items()
    }
    sharded = {key for key, variable in variables.items() if is_sharded(variable)}
    part = None
    if sharded:
        strategy: Any = trainer.distribute_strategy
        part = strategy.process, strategy.processes
        if strategy.process:  # the chief has the others
            variables = {key: variables[key] for key in sharded}
    values = {
        key: [(_spec(variable.shape, index), values) for index, values in host_slices(variable)]
        if key in sharded
        else [("", host_values(variable))]
        for key, variable in variables.items()
    }
    return Snapshot(trainer.step, values, validated, part)


def write(folder: str, taken: Snapshot, keep: int) -> None:
    """Writes a checkpoint to the run's `checkpoints` folder, and keeps so many of them."""
    write_state(folder, taken)
    publish(folder, taken, keep)


def write_state(folder: str, taken: Snapshot) -> None:
    """Writes what a snapshot holds; no pointer names it yet."""
    path = os.path.join(folder, _name(taken.step))
    if taken.part is None:
        _save(folder, path, "state", taken.values)
    else:
        _save(folder, path, _part(*taken.part), taken.values)


def publish(folder: str, taken: Snapshot, keep: int) -> None:
    """Completes a checkpoint that all processes have written, and names it in `LAST`."""
    name = _name(taken.step)
    path = os.path.join(folder, name)
    if taken.part is not None:
        count = taken.part[1]
        with tf.device("CPU:0"):
            tf.raw_ops.MergeV2Checkpoints(
                checkpoint_prefixes=[os.path.join(path, _part(n, count)) for n in range(count)],
                destination_prefix=os.path.join(path, "state"),
                delete_old_dirs=False,
            )
        tf.io.gfile.rmtree(os.path.join(path, PARTS))
    write_atomically(os.path.join(path, "step.json"), json.dumps({"step": taken.step}))
    # Training may have gone back: later ones are of a future that it has left.
    steps = sorted(step for step in _steps(folder) if step <= name)
    before = _read_pointer(folder, POINTER)
    write_atomically(os.path.join(folder, POINTER), name + "\n")
    if taken.validated:
        write_atomically(os.path.join(folder, GOOD), name + "\n")
    elif before in steps and before != name:
        passed = taken.step - int(before.removeprefix("step-"))
        went_back = _restores(os.path.join(folder, before)) != taken.count("restores")
        if taken.count("in_a_row") >= min(passed, STEPS_TO_SHOW) and not went_back:
            write_atomically(os.path.join(folder, GOOD), before + "\n")
    kept = {name, _read_pointer(folder, GOOD)}
    for old in steps[:-keep]:
        if old not in kept:
            tf.io.gfile.rmtree(os.path.join(folder, old))


def _restores(path: str) -> int | None:
    """How often training had gone back before a checkpoint; None if it is damaged."""
    try:
        return int(_open(path).get_tensor(_key("step_check", "step_check/restores")))
    except (tf.errors.OpError, ValueError, RuntimeError):
        return None


def write_weights(folder: str, network: keras.Model, step: int, dtype: str = "float32") -> None:
    """Writes a checkpoint of weights alone, from which no run can resume.

    They are rounded to the dtype; `restore_network` reads them into float32 variables.
    """
    values = {
        _key("network", name): [
            ("", tf.cast(host_values(v), dtype if v.dtype == "float32" else v.dtype))
        ]
        for name, v in _by_path(network.variables).items()
    }
    path = os.path.join(folder, _name(step))
    _save(folder, path, "state", values)
    write_atomically(os.path.join(path, "step.json"), json.dumps({"step": step}))
    write_atomically(os.path.join(folder, POINTER), _name(step) + "\n")


def _save(folder: str, path: str, prefix: str, values: dict[str, Slices]) -> None:
    """Writes the state, or a part of it, of the checkpoint at a path."""
    tf.io.gfile.makedirs(os.path.dirname(os.path.join(path, prefix)))
    if prefix in ("state", _part(0, 1)):  # no other process is writing
        for place in (folder, path):
            for file in tf.io.gfile.listdir(place):
                if re.search(r"\.(tempstate|tmp-)\w+$", file):  # of a run that was killed
                    tf.io.gfile.remove(os.path.join(place, file))
    # Their order in the file, see `_read`.
    rows = [(key, *each) for key, slices in sorted(values.items()) for each in slices]
    names, specs, tensors = zip(*rows, strict=True)
    with tf.device("CPU:0"):  # this machine's, not that of a TPU's host
        tf.raw_ops.SaveV2(
            prefix=os.path.join(path, prefix),
            tensor_names=list(names),
            shape_and_slices=list(specs),
            tensors=list(tensors),
        )


def _part(process: int, processes: int) -> str:
    """The prefix of what a process writes, in the folder of a checkpoint."""
    return os.path.join(PARTS, f"{process:05d}-of-{processes:05d}")


def _spec(shape: Sequence[int], index: Sequence[slice]) -> str:
    """The `shape_and_slice` of `tf.raw_ops.SaveV2` and `RestoreV2` for a slice of a tensor."""
    bounds = [each.indices(size) for each, size in zip(index, shape, strict=True)]
    slices = ":".join(f"{start},{stop - start}" for start, stop, _ in bounds)
    return f"{' '.join(map(str, shape))} {slices}"


def latest(folder: str) -> tuple[str | None, int]:
    """The path and the step of the last complete checkpoint; (None, 0) if there is none."""
    pointer = os.path.join(folder, POINTER)
    if not tf.io.gfile.exists(pointer):
        return None, 0
    path = os.path.join(folder, _read_pointer(folder, POINTER))
    try:
        return path, _step(path)
    except (tf.errors.OpError, ValueError, KeyError) as error:
        raise ValueError(
            f"{pointer} names {path}, which is not a complete checkpoint; write the name of "
            "another checkpoint into it, or remove it to start again"
        ) from error


def _read_pointer(folder: str, pointer: str) -> str:
    """The name in a pointer; empty if there is none, or if it cannot be read."""
    try:
        with tf.io.gfile.GFile(os.path.join(folder, pointer)) as file:
            return file.read().strip()
    except (tf.errors.OpError, UnicodeDecodeError):
        return ""


def restore_newest(
    folder: str,
    trainer: BaseTrainer,
    writes: bool = True,
    any_asks: Callable[[bool], bool] = bool,
) -> int:
    """Loads the last complete checkpoint or, if it is damaged, the newest intact one before it.

    `LAST` then names the one that was loaded, and `GOOD` no later one, if this process writes.
    Returns the step; 0 if there is no checkpoint. If none is intact, it is an error. By `any_asks`,
    see `Workers`, processes agree: one may read a damaged part of a checkpoint that others do not.
    """
    pointer, refusals = os.path.join(folder, POINTER), []
    if tf.io.gfile.exists(pointer):
        last = _read_pointer(folder, POINTER)
        names = sorted(_steps(folder), reverse=True)
        if last.startswith("step-"):  # else it is damaged, or another name of some checkpoint
            names = [name for name in names if name < last]
        for name in (last, *names):
            path, refusal = os.path.join(folder, name), None
            try:
                restore(path, trainer)
            except ValueError as error:
                refusal = error
            if any_asks(refusal is not None):
                refusals.append(refusal or ValueError(f"{path}: another machine cannot read it"))
                continue
            if refusals:
                say(f"{refusals[0]}; resuming from {name}")
                if writes:
                    write_atomically(pointer, name + "\n")
            break
        else:
            raise refusals[0]
    if writes and _read_pointer(folder, GOOD) > _name(trainer.step):  # of a future that is left
        tf.io.gfile.remove(os.path.join(folder, GOOD))
    return trainer.step


def go_back(folder: str, trainer: BaseTrainer) -> str:
    """Loads the last good checkpoint's weights, moments and masks; training continues after it.

    The step, the metrics and the counts stay: data and schedules continue. Returns the checkpoint's
    name; empty if no checkpoint has been shown to be good.
    """
    name = _read_pointer(folder, GOOD)
    if name not in _steps(folder):
        return ""
    whole, guard = _state(trainer), trainer.anomaly_guard
    state = {section: dict(by_path) for section, by_path in whole.items() if section != "metrics"}
    del state["optimizer"]["iteration"]
    for counted in ("bad_steps", "restores"):
        del state["step_check"][f"step_check/{counted}"]
    _read(os.path.join(folder, name), state, whole)
    guard.restores.assign(guard.restores.value + 1)
    guard.in_a_row.assign(0)
    return name


def restore(path: str, trainer: BaseTrainer) -> None:
    """Loads the checkpoint in a folder into a trainer, which it must match exactly."""
    state = _state(trainer)
    _read(path, state, state)
    with _name_in_errors(path):
        step, done = _step(path), int(trainer.optimizer.iterations.numpy())
        if done != step:
            raise ValueError(f"step.json is from step {step}, the weights are from step {done}")
    trainer.step = step


def restore_network(path: str, network: keras.Model) -> None:
    """Loads the network's weights from the checkpoint in a folder, without the training state."""
    whole = {"network": _by_path(network.variables)}
    _read(path, {"network": _by_path(network.weights)}, whole)


def _open(path: str) -> Any:
    return tf.train.load_checkpoint(os.path.join(path, "state"))


def _read(path: str, state: Sections, whole: Sections) -> None:
    """Reads `state`, which is all or a part of `whole`; the checkpoint must match `whole`."""
    with _name_in_errors(path):
        reader = _open(path)
        shapes = reader.get_variable_to_shape_map()
        stored = {name: shape for name, shape in shapes.items() if name.split("/")[0] in whole}
        if len(whole) > 1 and all(name.startswith("network/") for name in stored):
            raise ValueError("it holds weights alone; give it as initial_weights of a new run")
        wanted = {
            _key(section, name): list(variable.shape)
            for section, by_path in whole.items()
            for name, variable in by_path.items()
        }
        for name in sorted(stored.keys() | wanted.keys()):
            ours, theirs = wanted.get(name, "none"), stored.get(name, "none")
            if ours != theirs:
                variable = name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE").replace(".S", "/")
                raise ValueError(f"{variable}: its shape is {theirs}, in the model {ours}")
        # Always reads the last variable in the file: this fails if the file was cut off.
        reader.get_tensor(max(shapes))
    for section, by_path in state.items():
        for name, variable in by_path.items():
            key = _key(section, name)
            if is_sharded(variable):
                assign_slices(variable, functools.partial(_read_slice, path, key, variable))
                continue
            with _name_in_errors(path):
                value = reader.get_tensor(key)
            variable.assign(value)


def _read_slice(path: str, key: str, variable: Any, index: Sequence[slice]) -> np.ndarray:
    with _name_in_errors(path), tf.device("CPU:0"):
        [value] = tf.raw_ops.RestoreV2(
            prefix=os.path.join(path, "state"),
            tensor_names=[key],
            shape_and_slices=[_spec(variable.shape, index)],
            dtypes=[variable.dtype],
        )
    return value.numpy()


def _key(section: str, name: str) -> str:
    """TensorFlow's name for a variable of a section in a checkpoint."""
    name = name.replace(".", "..").replace("/", ".S")
    return f"{section}/{name}/.ATTRIBUTES/VARIABLE_VALUE"


@contextlib.contextmanager
def _name_in_errors(path: str) -> Iterator[None]:
    """Names the checkpoint in errors of reading it."""
    try:
        yield
    except (tf.errors.OpError, ValueError, LookupError, RuntimeError, AssertionError) as error:
        raise ValueError(
            f"{path} is damaged, or belongs to another model ({one_line(error)})"
        ) from error


def _step(path: str) -> int:
    with tf.io.gfile.GFile(os.path.join(path, "step.json"), "rb") as file:
        return int(json_object(file.read())["step"])


def _state(trainer: BaseTrainer) -> Sections:
    state = {name: _by_path(variables) for name, variables in trainer.state_variables.items()}
    state["optimizer"] = _by_path(trainer.optimizer.variables, trainer.optimizer.name)
    return state


def _by_path(variables: Iterable[Any], owner: str = "") -> dict[str, Any]:
    """Variables by a path that is the same in every process."""
    # Keras numbers random generators and optimisers across all models of a process. So the name of
    # the `owner` and the numbers of generators are left out; the generators of one layer are
    # distinguished by their order.
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


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _steps(folder: str) -> list[str]:
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    return [name for name in names if re.fullmatch(r"step-\d+", name)]

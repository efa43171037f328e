"""What a run of pre-training and one of fine-tuning have in common."""

import dataclasses
from typing import Any, Protocol

import tensorflow as tf

from keras_vitbert.configs.run import Experiment
from keras_vitbert.runs.checkpoints import latest
from keras_vitbert.runs.machine import Machine, Strategy, Workers
from keras_vitbert.runs.run_folder import RunFolder

POLICIES = ("stop", "skip", "restore")  # see `divergence`


class Stream(Protocol):
    """A run's training batches; a `validation(context)` and `validation_batches` are optional."""

    @property
    def images_per_step(self) -> int: ...

    @property
    def tokens_per_step(self) -> int: ...

    def training(self, step: int, context: tf.distribute.InputContext | None) -> tf.data.Dataset:
        """The batches from a step on, of one input pipeline."""
        ...

    def batch_records(self, step: int) -> dict[str, list[str]]:
        """The records of a step's batch by modality, for messages."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """An opened run; the subclasses add what is trained, `train()` and `evaluate()`."""

    config: Experiment  # resolved for the devices and the data
    folder: RunFolder
    machine: Machine
    data: Any  # open: `pretraining.data.Data` or `fine_tuning.task_data.TaskData`
    on_divergence: str = "stop"  # of `POLICIES`
    max_divergences: int = 10  # the most steps to skip, or times to restore
    accepted: tuple[str, ...] = ()  # what may differ from what the run began with

    def __post_init__(self):
        if self.on_divergence not in POLICIES:
            raise ValueError(f"on_divergence={self.on_divergence}: must be one of {POLICIES}")

    @property
    def step(self) -> int:
        """The step of the last checkpoint; 0 without one."""
        return latest(self.folder.checkpoints)[1]

    @property
    def workers(self) -> Workers:
        """The processes that share the run."""
        return self.machine.workers

    @property
    def strategy(self) -> Strategy:
        """See `tpu.strategy.get_strategy`."""
        return self.machine.strategy

    @property
    def replicas(self) -> int:
        """How many devices share a batch."""
        return self.machine.replicas

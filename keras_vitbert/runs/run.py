"""One object for everything that a run consists of."""

import dataclasses
from typing import Any

import tensorflow as tf
from ml_collections import config_dict

from keras_vitbert.runs.divergence import Policy
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.runs.workers import Workers


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of `pretrain` or `finetune`; their subclasses add what is trained.

    Attributes:
        config: checked `ConfigDict`, resolved for the devices.
        folder: `RunFolder`.
        workers: `Workers` of the strategy.
        strategy: `tf.distribute.Strategy`.
        data: its open data: `keras_vitbert.pretraining.data.Data` or
            `keras_vitbert.fine_tuning.task_data.TaskData`.
        divergence: `Policy`.
        accepted: keys that may differ from those that the run began with, see `RunSettings`.
        peak_flops: see `tpu.peak_flops`; None if it is not known.
    """

    config: config_dict.ConfigDict
    folder: RunFolder
    workers: Workers
    strategy: tf.distribute.Strategy
    data: Any
    divergence: Policy = dataclasses.field(default=Policy(), kw_only=True)
    accepted: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)
    peak_flops: float | None = dataclasses.field(default=None, kw_only=True)

    @property
    def replicas(self):
        """int, the number of devices that share a batch."""
        return self.strategy.num_replicas_in_sync

"""What a run is made of, in one object that is handed on."""

import dataclasses
from typing import Any

import tensorflow as tf
from ml_collections import config_dict

from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.runs.workers import Workers


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of `pretrain` or `finetune`, whose classes say what is trained.

    Attributes:
        config: checked `ConfigDict`, what it leaves to the devices filled in.
        folder: `RunFolder`.
        workers: `Workers` of the strategy.
        strategy: `tf.distribute.Strategy`.
        data: what was opened for it: `keras_vitbert.pretraining.data.Data`, or
            `keras_vitbert.fine_tuning.task_data.TaskData`.
    """

    config: config_dict.ConfigDict
    folder: RunFolder
    workers: Workers
    strategy: tf.distribute.Strategy
    data: Any

    @property
    def replicas(self):
        """How many devices share a batch."""
        return self.strategy.num_replicas_in_sync

"""Trainings that send themselves a signal."""

import os
import signal

from keras_vitbert import pretrain
from keras_vitbert.runs.divergence import DivergenceGuard
from pipelines import command_line


def signal_at(step, number=signal.SIGKILL, folder=""):
    """Makes this process send itself a signal once, at the end of a step, before that is looked at.

    Args:
        step: int.
        number: of the signal.
        folder: str, with which the path of the run ends.
    """
    original = DivergenceGuard.on_train_batch_end

    def hooked(self, batch, logs=None):
        if self.model.step == step and self.folder.path.endswith(folder):
            DivergenceGuard.on_train_batch_end = original
            os.kill(os.getpid(), number)
        original(self, batch, logs)

    DivergenceGuard.on_train_batch_end = hooked


def pretrain_with_signal(argv, step, number=signal.SIGKILL):
    """The command, for a process of its own; with step 0, without a signal."""
    if step:
        signal_at(step, number)
    return command_line.run(pretrain.main, argv)

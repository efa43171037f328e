"""Runs of `pretrain` that kill themselves, for processes of their own."""

import os
import signal

from keras_vitbert import pretrain
from keras_vitbert.runs import callbacks
from pipelines import command_line


def kill_after(step):
    """Makes this process kill itself after the log of the epoch that ends with a step."""
    write = callbacks.RunLog.on_epoch_end

    def killed(self, epoch, logs=None):
        write(self, epoch, logs)
        if self.model.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    callbacks.RunLog.on_epoch_end = killed


def pretrain_killed(argv):
    """The command, which is killed after step 8."""
    kill_after(8)
    return command_line.run(pretrain.main, argv)

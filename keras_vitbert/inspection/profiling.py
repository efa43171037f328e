"""A trace of some training steps, for TensorBoard's profile plug-in."""

import os
import sys

import keras
import tensorflow as tf


class Profile(keras.callbacks.Callback):
    """Traces the steps from `first` to `last`, counted from 1, both included.

    The trace is in RUN/logs/train/plugins/profile. Of executions of several steps those are traced
    that hold such a step. A run that goes on amid the steps traces what is left of them; one that
    goes on behind them traces nothing and says so. Use it as a context: of a training that breaks
    off, what was traced is written.

    Args:
        first, last: int.
        folder: `RunFolder`; only its writer traces.
    """

    def __init__(self, first, last, folder):
        super().__init__()
        self.first = first
        self.last = last
        self.folder = folder
        self._tracing = self._told = False
        self._mark = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._stop()

    def on_train_begin(self, logs=None):
        if self.folder.writes and self.model.step >= self.last and not self._told:
            text = (
                f"--profile={self.first},{self.last}: the run is at step {self.model.step} already"
            )
            print(f"{text}; nothing is traced", file=sys.stderr, flush=True)
        self._told = True

    def on_train_batch_begin(self, batch, logs=None):
        before, executed = self.model.step, self.model.steps_per_execution
        if not (self.folder.writes and before < self.last and before + executed >= self.first):
            return
        if not self._tracing:
            tf.profiler.experimental.start(os.path.join(self.folder.logs, "train"))
            self._tracing = True
        self._mark = tf.profiler.experimental.Trace("train", step_num=before + 1, _r=1)
        self._mark.__enter__()

    def on_train_batch_end(self, batch, logs=None):
        if self._mark is not None:
            self._mark.__exit__(None, None, None)
            self._mark = None
        if self.model.step >= self.last:
            self._stop()

    def _stop(self):
        if self._tracing:
            self._tracing = False
            tf.profiler.experimental.stop()

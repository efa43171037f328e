"""A trace of some training steps, for TensorBoard's profile plugin."""

import contextlib

import keras
import tensorflow as tf

from pipelines.command_line import say


class Profile(keras.callbacks.Callback, contextlib.AbstractContextManager):
    """Traces the steps from `first` to `last`, counted from 1, both included.

    The trace is in RUN/train/plugins/profile. An execution of several steps is traced if it
    contains such a step. A run that resumes between them traces the rest; one that resumes after
    them traces nothing and says so. Use it as a context, so that the trace is written even if
    training fails.

    Args:
        first, last: int, steps.
        folder: `RunFolder`; only its writer traces.
    """

    def __init__(self, first, last, folder):
        super().__init__()
        self.first = first
        self.last = last
        self.folder = folder
        self._tracing = self._told = False
        self._mark = None

    def __exit__(self, *exception):
        self._stop()

    def on_train_begin(self, logs=None):
        if self.folder.writes and self.model.step >= self.last and not self._told:
            say(
                f"the run is already at step {self.model.step}: no profile of steps {self.first} "
                f"to {self.last}"
            )
        self._told = True

    def on_train_batch_begin(self, batch, logs=None):
        before, executed = self.model.step, self.model.steps_per_execution
        if not (self.folder.writes and before < self.last and before + executed >= self.first):
            return
        if not self._tracing:
            tf.profiler.experimental.start(self.folder.file("train"))
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

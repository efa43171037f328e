"""Conflict of the two tasks' gradients on the way, in TensorBoard."""

import keras
import tensorflow as tf


class GradientProbe(keras.callbacks.Callback):
    """Looks at both gradients every `interval` steps, and in the end; writes to TensorBoard.

    It looks in the first step of the execution that ends at such a step or goes beyond it: without
    `steps_per_execution` in the very step.

    Args:
        interval: int, steps.
        steps: int, all of the run.
        folder: `RunFolder`.
    """

    def __init__(self, interval, steps, folder):
        super().__init__()
        self.interval = interval
        self.steps = steps
        self.folder = folder
        self._due = False

    def on_train_batch_begin(self, batch, logs=None):
        before = self.model.step
        after = before + self.model.steps_per_execution
        self._due = after // self.interval > before // self.interval or after == self.steps
        if self._due:
            self.model.request_probe()

    def on_train_batch_end(self, batch, logs=None):
        writer = self.folder.summary_writer("train") if self._due else None
        if writer is None:
            return
        conflict = self.model.conflict
        step = self.model.step - self.model.steps_per_execution + 1
        with writer.as_default(step=step):
            for block, found in conflict.values().items():
                for name in ("cosine", "norm_ratio", "opposite_sign"):
                    tf.summary.scalar(f"gradient_conflict/{name}/{block}", found[name])
            for (block, task), buckets in conflict.buckets().items():
                tf.summary.write(
                    f"gradients/{task}/{block}", buckets, metadata=histogram_metadata()
                )
        writer.flush()


def histogram_metadata():
    """What tells TensorBoard that an array of buckets is a histogram."""
    from tensorboard.plugins.histogram import metadata

    return metadata.create_summary_metadata(display_name=None, description=None)

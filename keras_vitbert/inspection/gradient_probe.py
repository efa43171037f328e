"""The conflict of the two tasks' gradients during training, in TensorBoard."""

import keras
import tensorflow as tf
from tensorboard.plugins.histogram.metadata import create_summary_metadata

from keras_vitbert.inspection.conflict_picture import conflict_picture
from pipelines.status import doing

# Curves of the whole encoder; those that are also in metrics.csv have its names.
TAGS = {
    "text_norm": "text_gradient_norm",
    "image_norm": "image_gradient_norm",
    "cosine": "gradient_cosine",
    "norm_ratio": "gradient_norm_ratio",
    "opposite_sign": "gradient_opposite_sign",
}


class GradientProbe(keras.callbacks.Callback):
    """Compares both gradients every `interval` steps and at the end; writes to TensorBoard.

    TensorBoard has curves of the whole encoder, `gradient/gradient_cosine` and others, and a
    picture of the blocks, `gradient_conflict/blocks`.

    With several steps per execution, it compares the gradients of the first step of the execution
    that contains such a step.

    Args:
        interval: int, steps.
        steps: int, of the whole training.
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
        if writer is not None:
            self._write(writer)

    @doing("writing gradients", "drawing")
    def _write(self, writer):
        conflict = self.model.conflict
        step = self.model.step - self.model.steps_per_execution + 1
        # This tells TensorBoard that an array of buckets is a histogram.
        metadata = create_summary_metadata(display_name=None, description=None)
        values = conflict.values()
        tags = {f"gradient/{tag}": values["all"][name] for name, tag in TAGS.items()}
        self.folder.log_scalars("train", step, tags)
        with writer.as_default(step=step):
            tf.summary.image("gradient_conflict/blocks", conflict_picture(values, step)[None])
            for (block, task), buckets in conflict.buckets().items():
                tf.summary.write(f"gradients/{task}/{block}", buckets, metadata=metadata)
        writer.flush()

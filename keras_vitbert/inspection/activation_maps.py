"""Activation maps during training: which units of every block respond to images, which to text."""

import itertools

import keras
import tensorflow as tf

from keras_vitbert.inspection.activation_pictures import activation_pictures
from keras_vitbert.inspection.activations import MeanActivations
from keras_vitbert.inspection.co_activation import co_activation
from keras_vitbert.inspection.value_files import write_values
from pipelines.status import doing


class ActivationMaps(keras.callbacks.Callback):
    """Shows how far the modalities share units: at the start, every `interval` steps, at the end.

    The encoder sees a fixed set of validation images and texts, without dropout. TensorBoard has
    pictures of the mean absolute activations of all blocks and of the first, the middle and the
    last one (`activations/overview`, `activations/block_0` ...), and curves of the means over the
    blocks of `co_activation.co_activation` (`co_activation/overlap`, `co_activation/correlation`);
    those of each block stand in the overview. RUN/inspection/activations-STEP.npz has the values:
    `image` and `text`, `(blocks, D)`.

    With several steps an execution it acts at the end of the execution that contains a multiple of
    `interval`. All workers take part; only the folder's writer writes. Put it before `Checkpoints`,
    so that a checkpointed step has its maps too.

    Args:
        stream: `JointStream`, of both modalities.
        vocabulary: list of str.
        folder: `RunFolder`.
        interval: int, steps.
        examples: int, images and texts each, rounded up to whole validation batches; all where
            there are fewer. Their batches are kept in memory.
        steps: int, of the whole training.

    Raises:
        ValueError: the model has only one modality.
    """

    def __init__(self, stream, vocabulary, folder, interval, examples, steps):
        super().__init__()
        self.stream = stream
        self.vocabulary = vocabulary
        self.folder = folder
        self.interval = interval
        self.examples = examples
        self.steps = steps
        self._batches = self._means = None

    def set_model(self, model):
        super().set_model(model)
        if self._means is None:
            means = MeanActivations(
                model.network.backbone, model.distribute_strategy, self.vocabulary
            )
            if means.modalities != ["image", "text"]:
                raise ValueError(f"the model has {means.modalities}, not images and text")
            self._means = means

    def on_train_begin(self, logs=None):
        if self.model.step == 0:
            self._show()

    def on_train_batch_end(self, batch, logs=None):
        step, executed = self.model.step, self.model.steps_per_execution
        # True only in the execution that has reached a further multiple.
        if step // self.interval > (step - executed) // self.interval or step == self.steps:
            self._show()

    def values(self):
        """The current mean absolute activations, see `MeanActivations`."""
        if self._batches is None:
            batches = self.model.distribute_strategy.distribute_datasets_from_function(
                lambda context: self.stream.validation(context)
            )
            self._batches = list(itertools.islice(batches, self._batch_count()))
        return self._means(self._batches)

    def _batch_count(self):
        sizes = self.stream.image_batch, self.stream.text_batch
        return min(self.stream.validation_batches, max(-(-self.examples // n) for n in sizes))

    @doing("drawing activation maps", "drawing")
    def _show(self):
        values = self.values()  # on all workers
        if not self.folder.writes:
            return
        step, image, text = self.model.step, values["image"], values["text"]
        write_values(self.folder, "activations", step, **values)
        writer = self.folder.summary_writer("train")
        scalars = {}
        for name, numbers in co_activation(image, text).items():
            scalars[f"co_activation/{name}"] = numbers.mean()
        self.folder.log_scalars("train", step, scalars)
        with writer.as_default(step=step):
            for name, picture in activation_pictures(image, text, step).items():
                tf.summary.image(f"activations/{name}", picture[None])
        writer.flush()

"""Activation maps during training: which units of every block respond to images, which to text."""

import tensorflow as tf

from keras_vitbert.inspection.activation_pictures import activation_pictures
from keras_vitbert.inspection.activations import MeanActivations
from keras_vitbert.inspection.co_activation import co_activation
from keras_vitbert.inspection.validation_looks import ValidationLook
from keras_vitbert.inspection.value_files import write_values
from pipelines.status import doing


class ActivationMaps(ValidationLook):
    """Shows how far the modalities share units: at the start, every `interval` steps, at the end.

    The encoder sees a fixed set of validation images and texts, without dropout. TensorBoard has
    pictures of the mean absolute activations of all blocks and of the first, the middle and the
    last one (`activations/overview`, `activations/block_0` ...). It also has curves of
    `co_activation.co_activation`, averaged over the blocks (`co_activation/overlap`,
    `co_activation/correlation`); the overview has those of each block.
    RUN/inspection/activations-STEP.npz has the values: `image` and `text`, `(blocks, D)`.

    Args:
        stream: `JointStream` with both modalities.
        vocabulary: list of str.
        folder, interval, examples, steps: see `ValidationLook`.
    """

    def __init__(self, stream, vocabulary, folder, interval, examples, steps):
        super().__init__(stream, folder, interval, examples, steps)
        self.vocabulary = vocabulary
        self._means = None

    def set_model(self, model):
        super().set_model(model)
        if self._means is None:
            self._means = MeanActivations(
                model.network.backbone, model.distribute_strategy, self.vocabulary
            )

    def values(self):
        """The current mean absolute activations, see `MeanActivations`."""
        return self._means(self._validation_batches())

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

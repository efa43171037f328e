"""Frozen teacher networks that a student is distilled from."""

from typing import Any

import keras

from keras_vitbert.model.pretraining_network import PreTrainingNetwork, image_inputs, text_inputs
from keras_vitbert.model.tensors import Tensors, ops


class Teacher(keras.Model):
    """A frozen network of another size, with the logits that a student needs.

    Args:
        network: images are resized to its size.
        vocabulary_size: the student's: masked-LM logits beyond it are cut off; None for all.

    Call it on the inputs of the student, images as floats in [0, 1]; it returns the network's dict
    of float32 logits. Images of another size are resized bilinearly and without antialiasing, as
    TPUs can compile this.
    """

    def __init__(
        self, network: PreTrainingNetwork, vocabulary_size: int | None = None, **kwargs: Any
    ):
        super().__init__(dtype="float32", **kwargs)  # images are resized before they are rounded
        self.network = network
        self.vocabulary_size = vocabulary_size
        self.trainable = False
        self.built = True

    def call(self, inputs: Tensors) -> Tensors:
        size = self.network.backbone.image_size
        if "images" in inputs and tuple(inputs["images"].shape[1:3]) != (size, size):
            images = ops.image.resize(
                inputs["images"], (size, size), "bilinear", data_format="channels_last"
            )
            inputs = {**inputs, "images": images}
        logits = self.network(inputs, training=False)
        if "mlm_logits" in logits:
            logits["mlm_logits"] = logits["mlm_logits"][..., : self.vocabulary_size]
        return logits


class Teachers:
    """A separately trained ViT and BERT, run in inference mode and without gradients.

    This is not a Keras layer, so a trainer that holds it neither trains nor saves the teachers.
    """

    def __init__(self, image: keras.Model | None = None, text: keras.Model | None = None):
        self.image = image
        self.text = text

    def __call__(self, batch: Tensors) -> Tensors:
        """The teachers' logits by the names that the student uses; empty without teachers.

        Call it outside the student's gradient tapes, on a batch as in `JointTrainer`.
        """
        logits = {}
        with keras.name_scope("teachers"):
            if self.image is not None and "images" in batch:
                logits |= self.image(image_inputs(batch), training=False)
            if self.text is not None and "token_ids" in batch:
                logits |= self.text(text_inputs(batch), training=False)
        return logits

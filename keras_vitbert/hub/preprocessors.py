"""Preprocessors of the tasks: from images and strings to inputs."""

import keras
import keras_hub
import numpy as np
import tensorflow as tf

from keras_vitbert.hub.tokenizer import ViTBertTokenizer
from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.backbone_inputs import WRONG_INTEGERS, WRONG_SCALE
from pipelines.images.image_decoding import central_view


@keras.saving.register_keras_serializable(package="keras_vitbert")
class ViTBertImageConverter(keras_hub.layers.ImageConverter):
    """The central square of images, resized as in validation and scaled to [0, 1].

    Args:
        image_size: pair of equal ints, pixels.
        central_crop: float, the fraction of the shorter side that is kept.

    Call it on an image `(height, width, 3)`, a batch, or a list of images of several sizes:
    integers in 0 to 255 or floats in [0, 1], as everywhere in this project. It returns float32 in
    [0, 1], a NumPy array outside of a `tf.function`.

    Raises:
        tf.errors.InvalidArgumentError: integers are outside 0 to 255, or floats outside [0, 1].
    """

    backbone_cls = ViTBertBackbone

    def __init__(self, image_size=None, central_crop=0.875, **kwargs):
        kwargs["scale"] = 1 / 255
        super().__init__(image_size=image_size, **kwargs)
        self.central_crop = central_crop

    def call(self, inputs):
        if isinstance(inputs, list | tuple) and len({np.shape(image) for image in inputs}) > 1:
            return np.stack([self.call(image) for image in inputs])
        with tf.device("cpu"):
            images = _as_bytes(tf.convert_to_tensor(inputs))
            view = central_view(images, self.image_size[0], self.central_crop)
            view = tf.cast(view, tf.float32) * self.scale
        return view if tf.inside_function() else view.numpy()

    def get_config(self):
        return {**super().get_config(), "central_crop": self.central_crop}


def _as_bytes(images):
    """Images in 0 to 255, from either scale."""
    if images.dtype == tf.uint8:
        return images
    if images.dtype.is_integer:
        images = tf.cast(images, tf.int64)  # in which 255 has a place
        is_right = (tf.reduce_min(images) >= 0) & (tf.reduce_max(images) <= 255)
        with tf.control_dependencies([_assert(is_right, WRONG_INTEGERS)]):
            return tf.cast(images, tf.uint8)
    is_right = (tf.reduce_min(images) >= 0) & (tf.reduce_max(images) <= 1)
    with tf.control_dependencies([_assert(is_right, WRONG_SCALE)]):
        return images * 255


def _assert(is_right, complaint):
    return tf.debugging.Assert(is_right, [f"images: {complaint}"])


class _NamedClasses:
    """Keeps the class names.

    Args:
        class_names: list of str in the order of the logits, or None.
    """

    def __init__(self, *args, class_names=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.class_names = class_names

    def get_config(self):
        return {**super().get_config(), "class_names": self.class_names}


@keras.saving.register_keras_serializable(package="keras_vitbert")
class ViTBertImageClassifierPreprocessor(
    _NamedClasses, keras_hub.models.ImageClassifierPreprocessor
):
    """keras-hub's preprocessor, with the class names.

    Args:
        image_converter: `ViTBertImageConverter`.
        class_names: list of str in the order of the logits, or None.
    """

    backbone_cls = ViTBertBackbone
    image_converter_cls = ViTBertImageConverter


@keras.saving.register_keras_serializable(package="keras_vitbert")
class ViTBertTextClassifierPreprocessor(_NamedClasses, keras_hub.models.TextClassifierPreprocessor):
    """keras-hub's preprocessor, with the class names.

    It pads to `sequence_length`, and cuts the longer text of a pair first, as in training.

    Args:
        tokenizer: `ViTBertTokenizer`.
        sequence_length: int, tokens.
        class_names: list of str in the order of the logits, or None.
    """

    backbone_cls = ViTBertBackbone
    tokenizer_cls = ViTBertTokenizer


@keras.saving.register_keras_serializable(package="keras_vitbert")
class ViTBertMaskedLMPreprocessor(keras_hub.models.MaskedLMPreprocessor):
    """keras-hub's preprocessor: tokenizes strings and masks 15 % of the tokens.

    Args:
        tokenizer: `ViTBertTokenizer`.
        sequence_length: int, tokens.
    """

    backbone_cls = ViTBertBackbone
    tokenizer_cls = ViTBertTokenizer

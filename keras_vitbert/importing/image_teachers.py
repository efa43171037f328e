"""Image classifiers of other projects, with the outputs of a `PreTrainingNetwork`."""

import keras
import numpy as np
from keras import ops

from keras_vitbert.importing import google, hugging_face, keras_hub_presets, sources
from keras_vitbert.importing.keras_hub_backbones import build_vit
from keras_vitbert.model.heads import logits_policy


class ImageTeacher(keras.Model):
    """A frozen classifier that gets the student's images in its own size and scale.

    Args:
        classifier: layer from images `(batch, height, width, 3)` to logits.
        image_size: pair of int, pixels; None if it takes any.
        scale, offset: float, or one a channel; images in [0, 1] become
            `images * scale + offset`.
        num_classes: int.
        labels: list of str, the class names in order, or None.

    Call it on `{"images": (batch, H, W, 3)}`, floats in [0, 1]; it returns `{"image_logits":
    (batch, num_classes)}` in float32. Images of another size are resized bilinearly, without
    antialiasing, which TPUs can compile.
    """

    def __init__(self, classifier, image_size, scale, offset, num_classes, labels=None, **kwargs):
        # float32: images are scaled before the classifier rounds them to its own dtype.
        super().__init__(dtype="float32", **kwargs)
        self.classifier = classifier
        self.image_size = None if image_size is None else tuple(image_size)
        self.scale = np.asarray(scale, np.float32)
        self.offset = np.asarray(offset, np.float32)
        self.num_classes = num_classes
        self.labels = labels
        self.trainable = False
        self.built = True

    def call(self, inputs):
        images = inputs["images"]
        if self.image_size is not None and tuple(images.shape[1:3]) != self.image_size:
            images = ops.image.resize(
                images, self.image_size, interpolation="bilinear", data_format="channels_last"
            )
        logits = self.classifier(images * self.scale + self.offset, training=False)
        return {"image_logits": ops.cast(logits, "float32")}


class VitClassifier(keras.layers.Layer):
    """A ViT or DeiT with linear classifiers on its first tokens, one a token.

    Args:
        weights: `VitWeights` with a classifier.
        dtype: a Keras dtype policy.

    Call it on normalised images `(batch, height, width, 3)`; it returns logits `(batch, classes)`,
    the mean over the classifiers.
    """

    def __init__(self, weights, dtype=None, **kwargs):
        super().__init__(dtype=dtype, **kwargs)
        hidden = weights.config["hidden_size"]
        self.backbone = build_vit(weights, dtype)
        self.pre_logits = None
        if "pre_logits.weight" in weights.tensors:
            self.pre_logits = dense(weights.tensors, "pre_logits", hidden, dtype, "tanh")
            hidden = self.pre_logits.units
        policy = logits_policy(self.dtype_policy)
        self.heads = [dense(weights.tensors, name, hidden, policy) for name in weights.heads]
        self.built = True

    def call(self, images):
        tokens = self.backbone(images, training=False)[:, : len(self.heads)]
        if self.pre_logits is not None:
            tokens = self.pre_logits(tokens)
        logits = [head(tokens[:, index]) for index, head in enumerate(self.heads)]
        return sum(logits) / len(logits)


def dense(tensors, name, inputs, dtype, activation=None):
    """A Dense layer with weights of a checkpoint.

    Args:
        tensors: dict that holds `NAME.weight` `(outputs, inputs)` and `NAME.bias`.
        name: str.
        inputs: int.
        dtype: a Keras dtype policy.
        activation: str, or None.

    Returns:
        `keras.layers.Dense`.
    """
    weight = tensors[f"{name}.weight"]
    layer = keras.layers.Dense(len(weight), activation=activation, dtype=dtype, name=name)
    layer.build((None, inputs))
    layer.set_weights([weight.T, tensors[f"{name}.bias"]])
    return layer


def load_image_teacher(source, dtype=None):
    """Loads an image classifier of another project.

    Args:
        source: `sources.Source`, of any kind but a run of this project.
        dtype: a Keras dtype policy.

    Returns:
        `ImageTeacher`.

    Raises:
        UserError: it is no image classifier, or damaged.
    """
    if source.kind == sources.PRESET:
        return ImageTeacher(**keras_hub_presets.load_image_classifier(source, dtype))
    readers = {
        sources.HUGGING_FACE: hugging_face.read_vit,
        sources.GOOGLE_VIT: google.read_vit,
    }
    sources.require_kind(source, readers, "images")
    weights = readers[source.kind](source)
    size = weights.config["image_size"]
    classifier = VitClassifier(weights, dtype, name="classifier")
    return ImageTeacher(
        classifier,
        (size, size),
        weights.scale,
        weights.offset,
        classifier.heads[0].units,
        weights.labels,
    )

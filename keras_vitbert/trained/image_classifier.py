"""Image classification as a keras-hub task."""

import keras
import keras_hub

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.heads import class_head
from keras_vitbert.trained.preprocessors import ViTBertImageClassifierPreprocessor


@keras.saving.register_keras_serializable(package="keras_vitbert")
class ViTBertImageClassifier(keras_hub.models.ImageClassifier):
    """The backbone with a head on the class token of an image, by default the paper's (eq. 5, 6).

    Args:
        backbone: `ViTBertBackbone` with an image side.
        num_classes: int, `C`.
        preprocessor: `ViTBertImageClassifierPreprocessor`, which takes images of any size, or None
            for floats `(batch, image_size, image_size, 3)` in [0, 1].
        head_kind: str, of `keras_vitbert.model.heads.CLASS_HEADS`.

    It returns logits `(batch, num_classes)` in float32.

    Example:

    ```python
    classifier = ViTBertImageClassifier.from_preset("presets/imagenet")
    logits = classifier.predict(images)  # (batch, height, width, 3), uint8 or floats in [0, 1]
    names = classifier.preprocessor.class_names
    ```
    """

    backbone_cls = ViTBertBackbone
    preprocessor_cls = ViTBertImageClassifierPreprocessor

    def __init__(self, backbone, num_classes, preprocessor=None, head_kind="paper", **kwargs):
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.head = class_head(head_kind, num_classes, backbone, "head")
        images = backbone.input["images"]
        sequences = backbone({"images": images}, image_positions=self.head.tokens)
        logits = self.head.of_sequence(sequences["image_sequence"])
        # keras-hub's own constructor would pool over the area of images.
        keras_hub.models.Task.__init__(self, inputs=images, outputs=logits, **kwargs)
        self.num_classes = num_classes
        self.head_kind = head_kind
        self.activation = None  # so that `compile` knows that these are logits

    def get_config(self):
        return {
            **keras_hub.models.Task.get_config(self),
            "num_classes": self.num_classes,
            "head_kind": self.head_kind,
        }

"""Text classification as a keras-hub task."""

import keras
import keras_hub

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.heads import class_head
from keras_vitbert.trained.preprocessors import ViTBertTextClassifierPreprocessor


@keras.saving.register_keras_serializable(package="keras_vitbert")
class ViTBertTextClassifier(keras_hub.models.TextClassifier):
    """The backbone with a head on the class token of a text, by default the paper's (eq. 5, 6).

    Args:
        backbone: `ViTBertBackbone` with a text side.
        num_classes: int, `C`.
        preprocessor: `ViTBertTextClassifierPreprocessor`, or None for a dict of `token_ids`,
            `segment_ids` and `padding_mask`, each `(batch, length)`.
        head_kind: str, of `keras_vitbert.model.heads.CLASS_HEADS`.

    It returns logits `(batch, num_classes)` in float32.

    Example:

    ```python
    classifier = ViTBertTextClassifier.from_preset("presets/rte")
    classifier.predict((["It rains.", "It rains."], ["It is wet.", "It is dry."]))
    ```
    """

    backbone_cls = ViTBertBackbone
    preprocessor_cls = ViTBertTextClassifierPreprocessor

    def __init__(self, backbone, num_classes, preprocessor=None, head_kind="paper", **kwargs):
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.head = class_head(head_kind, num_classes, backbone, "head")
        inputs = {name: x for name, x in backbone.input.items() if name != "images"}
        sequences = backbone(inputs, text_positions=self.head.tokens)
        logits = self.head.of_sequence(sequences["text_sequence"])
        super().__init__(inputs=inputs, outputs=logits, **kwargs)
        self.num_classes = num_classes
        self.head_kind = head_kind

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "head_kind": self.head_kind,
        }

"""Text classification as a keras-hub task."""

import keras
import keras_hub

from keras_vitbert.hub.preprocessors import ViTBertTextClassifierPreprocessor
from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.heads import MLPHead


@keras.saving.register_keras_serializable(package="keras_vitbert")
class ViTBertTextClassifier(keras_hub.models.TextClassifier):
    """The backbone with the paper's head on the class token of a text (eq. 5 and 6).

    Args:
        backbone: `ViTBertBackbone` with a text side.
        num_classes: int, `C`.
        preprocessor: `ViTBertTextClassifierPreprocessor`, or None for a dict of `token_ids`,
            `segment_ids` and `padding_mask`, each `(batch, length)`.

    It returns logits `(batch, num_classes)` in float32.

    Example:

    ```python
    classifier = ViTBertTextClassifier.from_preset("presets/rte")
    classifier.predict((["It rains.", "It rains."], ["It is wet.", "It is dry."]))
    ```
    """

    backbone_cls = ViTBertBackbone
    preprocessor_cls = ViTBertTextClassifierPreprocessor

    def __init__(self, backbone, num_classes, preprocessor=None, **kwargs):
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.head = MLPHead(
            num_classes, dropout=backbone.dropout, dtype=backbone.dtype_policy, name="head"
        )
        inputs = {name: x for name, x in backbone.input.items() if name != "images"}
        logits = self.head(backbone(inputs)["text_sequence"][:, 0])
        super().__init__(inputs=inputs, outputs=logits, **kwargs)
        self.num_classes = num_classes

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}

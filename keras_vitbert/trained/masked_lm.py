"""Masked language modelling as a keras-hub task."""

import keras
import keras_hub

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.masked_lm_heads import masked_lm_head
from keras_vitbert.trained.preprocessors import ViTBertMaskedLMPreprocessor


@keras.saving.register_keras_serializable(package="keras_vitbert")
class ViTBertMaskedLM(keras_hub.models.MaskedLM):
    """The backbone with a head on the masked tokens of a text, by default the paper's (eq. 5, 6).

    Args:
        backbone: `ViTBertBackbone` with a text side.
        preprocessor: `ViTBertMaskedLMPreprocessor`, or None for a dict of `token_ids`,
            `segment_ids`, `padding_mask` `(batch, length)` and `mask_positions`
            `(batch, predictions)`.
        head_kind: str, of `keras_vitbert.model.masked_lm_heads.MASKED_LM_HEADS`.

    It returns logits `(batch, predictions, vocabulary_size)` in float32.

    Example:

    ```python
    model = ViTBertMaskedLM.from_preset("presets/text")
    model.fit(["The first text.", "The second text."])  # continues training, with new masks
    ```
    """

    backbone_cls = ViTBertBackbone
    preprocessor_cls = ViTBertMaskedLMPreprocessor

    def __init__(self, backbone, preprocessor=None, head_kind="paper", **kwargs):
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.mlm_head = masked_lm_head(head_kind, backbone, "mlm_head")
        positions = keras.Input((None,), dtype="int32", name="mask_positions")
        inputs = {name: x for name, x in backbone.input.items() if name != "images"}
        logits = self.mlm_head(backbone(inputs)["text_sequence"], positions)
        super().__init__(inputs={**inputs, "mask_positions": positions}, outputs=logits, **kwargs)
        self.head_kind = head_kind

    def get_config(self):
        return {**super().get_config(), "head_kind": self.head_kind}

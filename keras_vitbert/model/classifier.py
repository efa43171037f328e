"""The network for fine-tuning: the backbone with one modality, and a new head."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.embeddings import ImageEmbedding, TextEmbedding
from keras_vitbert.model.heads import class_head
from keras_vitbert.model.pretraining_network import BackboneNetwork, image_inputs
from keras_vitbert.model.tensors import Tensor, Tensors

TEXT_INPUTS = ("token_ids", "segment_ids", "padding_mask")


@keras.saving.register_keras_serializable(package="keras_vitbert")
class Classifier(BackboneNetwork):
    """A backbone and a head on the class token, by default a two-layer MLP (eq. 5 and 6).

    Args:
        backbone: with one modality.
        num_classes: `C`.
        head_kind: one of `keras_vitbert.model.heads.CLASS_HEADS`.

    Call it on a dict with the backbone's inputs; `images` are integers in 0 to 255 or floats in
    [0, 1]. It returns logits `(batch, num_classes)` in float32.

    Raises:
        ValueError: the backbone has both modalities.
    """

    def __init__(
        self,
        backbone: ViTBertBackbone,
        num_classes: int,
        head_kind: str | dict = "paper",
        **kwargs: Any,
    ):
        super().__init__(backbone, num_classes, **kwargs)
        if backbone.image_size is not None and backbone.vocabulary_size is not None:
            raise ValueError("the backbone takes images and text; build it with one of them")
        self.head_kind = head_kind
        self.head = class_head(head_kind, num_classes, backbone, "head")
        self.built = True

    @property
    def kind(self) -> str:
        """What is classified: `images` or `text`."""
        return "text" if self.backbone.image_size is None else "images"

    @property
    def embedding(self) -> ImageEmbedding | TextEmbedding:
        """The layer that turns the inputs into tokens."""
        return self.backbone.image_embedding or self.backbone.text_embedding

    def features(self, inputs: Tensors) -> Tensor:
        """What the head reads: `(batch, tokens, D)`, the class token first; two tokens for DeiT."""
        if self.kind == "images":
            outputs = self.backbone(image_inputs(inputs), image_positions=self.head.tokens)
            return outputs["image_sequence"]
        texts = {name: inputs[name] for name in TEXT_INPUTS}
        return self.backbone(texts, text_positions=self.head.tokens)["text_sequence"]

    def call(self, inputs: Tensors) -> Tensor:
        return self.head.of_sequence(self.features(inputs))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "head_kind": self.head_kind}

    def enable_lora(self, rank: int) -> None:
        """Freezes the encoder and adds low-rank updates to its attention (Hu et al. 2021).

        This is keras-hub's `Backbone.enable_lora` on queries and values, whose biases are trained
        as well. The head is trained in full.
        """
        self.backbone.enable_lora(rank)


def build_classifier(
    model: Mapping[str, Any],
    kind: str,
    num_classes: int,
    dtype: Any = None,
    head_kind: str | dict = "paper",
) -> Classifier:
    """A `Classifier` of `images` or `text` with random weights.

    `model` holds `ViTBertBackbone`'s arguments; the other modality's are ignored.
    """
    others = ("num_classes", "image_head", "text_head")
    arguments = {name: value for name, value in model.items() if name not in others}
    arguments["vocabulary_size" if kind == "images" else "image_size"] = None
    backbone = ViTBertBackbone(**arguments, dtype=dtype, name="backbone")
    return Classifier(backbone, num_classes, head_kind, name="classifier")

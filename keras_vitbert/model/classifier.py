"""The network for fine-tuning: the backbone with one modality, and a new head."""

import keras

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.heads import class_head
from keras_vitbert.model.pretraining_network import BackboneNetwork, image_inputs

TEXT_INPUTS = ("token_ids", "segment_ids", "padding_mask")


@keras.saving.register_keras_serializable(package="keras_vitbert")
class Classifier(BackboneNetwork):
    """A backbone and a head on the class token, by default a two-layer MLP (eq. 5 and 6).

    Args:
        backbone: a `ViTBertBackbone` with one modality.
        num_classes: int, `C`.
        head_kind: str, one of `keras_vitbert.model.heads.CLASS_HEADS`.

    Call it on a dict with the backbone's inputs; `images` are integers in 0 to 255 or floats in
    [0, 1]. It returns logits `(batch, num_classes)` in float32.

    Raises:
        ValueError: the backbone has both modalities.
    """

    def __init__(self, backbone, num_classes, head_kind="paper", **kwargs):
        super().__init__(backbone, num_classes, **kwargs)
        if backbone.image_size is not None and backbone.vocabulary_size is not None:
            raise ValueError("the backbone takes images and text; build it with one of them")
        self.head_kind = head_kind
        self.head = class_head(head_kind, num_classes, backbone, "head")
        self.built = True

    @property
    def kind(self):
        """str, what is classified: `images` or `text`."""
        return "text" if self.backbone.image_size is None else "images"

    @property
    def embedding(self):
        """The layer that turns the inputs into tokens."""
        if self.kind == "images":
            return self.backbone.image_embedding
        return self.backbone.text_embedding

    def features(self, inputs):
        """What the head reads.

        Args:
            inputs: dict, as in a call.

        Returns:
            `(batch, tokens, D)`, the class token first; two tokens with DeiT's head, else one.
        """
        if self.kind == "images":
            outputs = self.backbone(image_inputs(inputs), image_positions=self.head.tokens)
            return outputs["image_sequence"]
        texts = {name: inputs[name] for name in TEXT_INPUTS}
        return self.backbone(texts, text_positions=self.head.tokens)["text_sequence"]

    def call(self, inputs):
        return self.head.of_sequence(self.features(inputs))

    def get_config(self):
        return {**super().get_config(), "head_kind": self.head_kind}

    def enable_lora(self, rank):
        """Freezes the encoder and adds low-rank updates to its attention (Hu et al. 2021).

        This is keras-hub's `Backbone.enable_lora` on queries and values, whose biases are trained
        as well. The head is trained in full.

        Args:
            rank: int, rank of the updates.
        """
        self.backbone.enable_lora(rank)


def build_classifier(model, kind, num_classes, dtype=None, head_kind="paper"):
    """A `Classifier` with random weights.

    Args:
        model: mapping with `ViTBertBackbone`'s arguments; the other modality's are ignored.
        kind: str, `images` or `text`.
        num_classes: int.
        dtype: a Keras dtype policy.
        head_kind: str, see `Classifier`.
    """
    others = ("num_classes", "image_head", "text_head")
    arguments = {name: value for name, value in model.items() if name not in others}
    arguments["vocabulary_size" if kind == "images" else "image_size"] = None
    backbone = ViTBertBackbone(**arguments, dtype=dtype, name="backbone")
    return Classifier(backbone, num_classes, head_kind, name="classifier")

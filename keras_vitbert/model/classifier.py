"""The networks for fine-tuning: the backbone, and a new head for each modality's classes."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.embeddings import ImageEmbedding, TextEmbedding
from keras_vitbert.model.heads import class_head
from keras_vitbert.model.pretraining_network import BackboneNetwork, image_inputs
from keras_vitbert.model.tensors import Tensor, Tensors

TEXT_INPUTS = ("token_ids", "segment_ids", "padding_mask")
MODALITIES = ("text", "image")  # in the order of their passes


@keras.saving.register_keras_serializable(package="keras_vitbert")
class Classifier(BackboneNetwork):
    """A backbone and a head on the class token, by default a two-layer MLP (eq. 5 and 6).

    Args:
        backbone: with one modality.
        num_classes: `C`.
        head_kind: one of `keras_vitbert.model.heads.CLASS_HEADS`.
        modality: `text` or `image`, of a backbone with both; None for its only one.

    Attributes:
        modality: `text` or `image`: which inputs it takes.
        head: the layer from the class token, `(batch, D)`, to the logits; of the kind `deit` from
            two tokens, `(batch, 2, D)`. Its name is `head`, with a given modality `text_head` or
            `image_head`.

    Call it on a dict with the backbone's inputs; `images` are integers in 0 to 255 or floats in
    [0, 1]. It returns logits `(batch, num_classes)` in float32.

    Raises:
        ValueError: the backbone has both modalities, and none is given.
    """

    def __init__(
        self,
        backbone: ViTBertBackbone,
        num_classes: int,
        head_kind: str | dict = "paper",
        modality: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(backbone, num_classes, **kwargs)
        takes = {
            "text": backbone.vocabulary_size is not None,
            "image": backbone.image_size is not None,
        }
        if modality is None and all(takes.values()):
            raise ValueError("the backbone takes images and text; build it with one of them")
        self.modality = modality or ("image" if takes["image"] else "text")
        self.head_kind = head_kind
        name = f"{modality}_head" if modality else "head"
        self.head = class_head(head_kind, num_classes, backbone, name)
        self.built = True

    @property
    def embedding(self) -> ImageEmbedding | TextEmbedding:
        """The layer that turns the inputs into tokens."""
        return getattr(self.backbone, f"{self.modality}_embedding")

    def inputs_of(self, batch: Tensors) -> Tensors:
        """The inputs among a batch's tensors; images as floats in [0, 1]."""
        if self.modality == "image":
            return image_inputs(batch)
        return {name: batch[name] for name in TEXT_INPUTS}

    def features(self, inputs: Tensors) -> Tensor:
        """What the head reads: `(batch, tokens, D)`, the class token first; two tokens for DeiT."""
        positions = {f"{self.modality}_positions": self.head.tokens}
        return self.backbone(self.inputs_of(inputs), **positions)[f"{self.modality}_sequence"]

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


@keras.saving.register_keras_serializable(package="keras_vitbert")
class JointClassifier(BackboneNetwork):
    """A backbone with a `Classifier` of texts and one of images.

    Args:
        backbone: with both modalities.
        num_classes: by modality, `text` and `image`.
        head_kind: likewise.

    Attributes:
        classifiers: of texts and of images, in the order of `MODALITIES`.

    Call it on a dict with the backbone's inputs for one modality or both; it returns a dict of
    `text_logits` and `image_logits`, see `Classifier`.
    """

    def __init__(
        self,
        backbone: ViTBertBackbone,
        num_classes: Mapping[str, int],
        head_kind: Mapping[str, str | dict],
        **kwargs: Any,
    ):
        super().__init__(backbone, dict(num_classes), **kwargs)
        self.head_kind = dict(head_kind)
        self.classifiers = [
            Classifier(backbone, num_classes[name], head_kind[name], name, name=name)
            for name in MODALITIES
        ]
        self.built = True

    def call(self, inputs: Tensors) -> Tensors:
        takes = {"text": "token_ids" in inputs, "image": "images" in inputs}
        return {f"{c.modality}_logits": c(inputs) for c in self.classifiers if takes[c.modality]}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "head_kind": self.head_kind}

    def enable_lora(self, rank: int) -> None:
        """See `Classifier.enable_lora`."""
        self.backbone.enable_lora(rank)


def classifiers_of(network: Classifier | JointClassifier) -> dict[str, Classifier]:
    """A network's classifiers by their modalities, in the order of `MODALITIES`."""
    every = [network] if isinstance(network, Classifier) else network.classifiers
    return {classifier.modality: classifier for classifier in every}


def build_classifier(
    model: Mapping[str, Any],
    num_classes: Mapping[str, int],
    head_kind: Mapping[str, str | dict] | None = None,
    dtype: Any = None,
) -> Classifier | JointClassifier:
    """A classifier with random weights.

    Args:
        model: `ViTBertBackbone`'s arguments; those of other modalities are ignored.
        num_classes: by modality, `text`, `image` or both.
        head_kind: by modality; the paper's by default.
        dtype: a Keras dtype policy.
    """
    others = ("num_classes", "image_head", "text_head")
    arguments = {name: value for name, value in model.items() if name not in others}
    arguments |= {} if "image" in num_classes else {"image_size": None}
    arguments |= {} if "text" in num_classes else {"vocabulary_size": None}
    backbone = ViTBertBackbone(**arguments, dtype=dtype, name="backbone")
    kinds = {name: (head_kind or {}).get(name, "paper") for name in num_classes}
    if len(num_classes) > 1:
        return JointClassifier(backbone, num_classes, kinds, name="classifier")
    [(name, count)] = num_classes.items()
    return Classifier(backbone, count, kinds[name], name="classifier")

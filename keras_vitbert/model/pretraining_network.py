"""The network for pre-training: the backbone and one head per task."""

from collections.abc import Mapping
from typing import Any, Self

import keras

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.backbone_inputs import require_below, scaled
from keras_vitbert.model.encoder_block import counted_over_all, starts_of
from keras_vitbert.model.heads import class_head, masked_lm_head, pooler
from keras_vitbert.model.tensors import Tensor, Tensors, ops


class BackboneNetwork(keras.Model):
    """What the networks on a backbone share: how Keras saves them."""

    def __init__(self, backbone: ViTBertBackbone, num_classes: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.backbone = backbone
        self.num_classes = num_classes

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        backbone = keras.saving.deserialize_keras_object(config["backbone"])
        return cls(**{**config, "backbone": backbone})


@keras.saving.register_keras_serializable(package="keras_vitbert")
class PreTrainingNetwork(BackboneNetwork):
    """A backbone with heads for image classification, masked-LM and next sentence.

    Args:
        backbone: there are heads for its modalities only.
        num_classes: image classes; None for a backbone without images.
        heads: the kinds of `image`, `mlm` and `nsp`, see `heads`; a name that is left out has no
            logits. By default all are the paper's. `pooler` is that of a BERT or ViT without these
            heads; it has no logits.

    Call it on a dict with the backbone's inputs for one modality or both (`images` are integers in
    0 to 255 or floats in [0, 1]); text also needs `masked_positions` `(batch, predictions)`. It
    returns a dict of float32 logits: `image_logits` `(batch, num_classes)`, `mlm_logits`
    `(batch, predictions, vocabulary_size)` and `nsp_logits` `(batch, 2)`, where class 1 means that
    segment B is random.

    Where rows hold several texts (`pipelines.text_stream.packed`), `text_starts` `(texts,)` says
    where each begins, counted over all rows; logits and `masked_positions` are then by text.
    """

    def __init__(
        self,
        backbone: ViTBertBackbone,
        num_classes: int | None = None,
        heads: Mapping[str, str | dict] | None = None,
        **kwargs: Any,
    ):
        super().__init__(backbone, num_classes, **kwargs)
        kinds = dict.fromkeys(("image", "mlm", "nsp"), "paper") if heads is None else heads
        has_images, has_text = backbone.image_size is not None, backbone.vocabulary_size is not None
        takes = {"image": has_images, "mlm": has_text, "nsp": has_text, "pooler": True}
        self.heads = kinds = {name: kind for name, kind in kinds.items() if takes[name]}
        self.image_head = self.mlm_head = self.nsp_head = self.pooler = None
        if "image" in kinds:
            self.image_head = class_head(kinds["image"], num_classes or 0, backbone, "image_head")
        if "mlm" in kinds:
            self.mlm_head = masked_lm_head(kinds["mlm"], backbone, "mlm_head")
        if "nsp" in kinds:
            self.nsp_head = class_head(kinds["nsp"], 2, backbone, "nsp_head")
        if "pooler" in kinds:
            self.pooler = pooler(backbone)
        self.built = True

    def call(self, inputs: Tensors) -> Tensors:
        sequences = self.backbone(
            inputs,
            image_positions=None if self.image_head is None else self.image_head.tokens,
            text_positions=self._read_of_texts(inputs) if "token_ids" in inputs else None,
        )
        logits = {}
        if "image_sequence" in sequences and self.image_head is not None:
            logits["image_logits"] = self.image_head.of_sequence(sequences["image_sequence"])
        if "text_sequence" in sequences:
            text = sequences["text_sequence"]
            if self.mlm_head is not None:
                logits["mlm_logits"] = self.mlm_head(text[:, 1:])
            if self.nsp_head is not None:
                logits["nsp_logits"] = self.nsp_head.of_sequence(text)
        return logits

    def _read_of_texts(self, inputs: Tensors) -> Tensor:
        """Each text's first token and masked ones, `(texts, 1 + predictions)`, over all rows."""
        starts = inputs.get("text_starts")
        if starts is None:
            starts = starts_of(inputs["token_ids"])
        first = ops.expand_dims(starts, -1)
        if self.mlm_head is None:
            return first
        require_below(inputs["token_ids"].shape[1], inputs["masked_positions"], "masked_positions")
        masked = counted_over_all(inputs["masked_positions"], starts)
        return ops.concatenate([first, masked], -1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": dict(self.heads)}


TEXT_INPUTS = ("token_ids", "segment_ids", "padding_mask", "masked_positions")
_OF_PACKED = ("position_ids", "text_starts")


def image_inputs(batch: Tensors) -> Tensors:
    """The image inputs of a batch, as floats in [0, 1]; see `backbone_inputs.scaled`."""
    return {"images": scaled(batch["images"])}


def text_inputs(batch: Tensors) -> Tensors:
    """The text inputs of a batch: `TEXT_INPUTS`, and those of packed texts."""
    packed = [name for name in _OF_PACKED if name in batch]
    return {name: batch[name] for name in (*TEXT_INPUTS, *packed)}


def build_network(
    model: Mapping[str, Any], *, images: bool = True, text: bool = True, dtype: Any = None
) -> PreTrainingNetwork:
    """A `PreTrainingNetwork` from the `model` section of a config, for one modality or both.

    `model` holds `ViTBertBackbone`'s arguments, `num_classes`, and the kinds of heads `image_head`
    and `text_head`, by default the paper's. `dtype` is a Keras dtype policy.
    """
    arguments = dict(model)
    num_classes = arguments.pop("num_classes")
    image_head, text_head = (arguments.pop(f"{kind}_head", "paper") for kind in ("image", "text"))
    if not images:
        arguments["image_size"] = num_classes = None
    if not text:
        arguments["vocabulary_size"] = None
    backbone = ViTBertBackbone(**arguments, dtype=dtype, name="backbone")
    heads = {"image": image_head, "mlm": text_head, "nsp": text_head}
    return PreTrainingNetwork(backbone, num_classes, heads, name="network")

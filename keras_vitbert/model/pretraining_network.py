"""The network for pre-training: the backbone and one head per task."""

import keras

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.heads import MaskedLMHead, MLPHead
from keras_vitbert.model.image_scale import scaled


class BackboneNetwork(keras.Model):
    """What the networks on a backbone share: how Keras saves them.

    Args:
        backbone: a `ViTBertBackbone`.
        num_classes: int, or None.
    """

    def __init__(self, backbone, num_classes=None, **kwargs):
        super().__init__(**kwargs)
        self.backbone = backbone
        self.num_classes = num_classes

    def get_config(self):
        return {
            "name": self.name,
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes,
        }

    @classmethod
    def from_config(cls, config):
        backbone = keras.saving.deserialize_keras_object(config["backbone"])
        return cls(**{**config, "backbone": backbone})


@keras.saving.register_keras_serializable(package="keras_vitbert")
class PreTrainingNetwork(BackboneNetwork):
    """A backbone with heads for image classification, masked-LM and next sentence.

    Args:
        backbone: a `ViTBertBackbone`; there are heads for its modalities only.
        num_classes: int, image classes; None for a backbone without images.

    Call it on a dict with the backbone's inputs for one modality or both (`images` are integers in
    0 to 255 or floats in [0, 1]); text also needs
    `masked_positions` `(batch, predictions)`. It returns a dict of float32 logits: `image_logits`
    `(batch, num_classes)`, `mlm_logits` `(batch, predictions, vocabulary_size)` and `nsp_logits`
    `(batch, 2)`, where class 1 means that segment B is random.
    """

    def __init__(self, backbone, num_classes=None, **kwargs):
        super().__init__(backbone, num_classes, **kwargs)
        options = {"dropout": backbone.dropout, "dtype": backbone.dtype_policy}
        sequence_shape = (None, None, backbone.hidden_dim)
        if backbone.image_size is not None:
            self.image_head = MLPHead(num_classes, name="image_head", **options)
            self.image_head.build((None, backbone.hidden_dim))
        if backbone.vocabulary_size is not None:
            self.mlm_head = MaskedLMHead(backbone.vocabulary_size, name="mlm_head", **options)
            self.mlm_head.build(sequence_shape)
            self.nsp_head = MLPHead(2, name="nsp_head", **options)
            self.nsp_head.build((None, backbone.hidden_dim))
        self.built = True

    def call(self, inputs):
        sequences = self.backbone(inputs)
        logits = {}
        if "image_sequence" in sequences:
            logits["image_logits"] = self.image_head(sequences["image_sequence"][:, 0])
        if "text_sequence" in sequences:
            text = sequences["text_sequence"]
            logits["mlm_logits"] = self.mlm_head(text, inputs["masked_positions"])
            logits["nsp_logits"] = self.nsp_head(text[:, 0])
        return logits


TEXT_INPUTS = ("token_ids", "segment_ids", "padding_mask", "masked_positions")


def image_inputs(batch):
    """The image inputs of a batch, as floats in [0, 1].

    Args:
        batch: dict with `images` `(batch, H, W, 3)`, integers in 0 to 255 or floats in [0, 1].

    Raises:
        ValueError: floats are outside [0, 1], see `image_scale.scaled`.
    """
    return {"images": scaled(batch["images"])}


def text_inputs(batch):
    """The text inputs of a batch.

    Args:
        batch: dict that contains `TEXT_INPUTS`.
    """
    return {name: batch[name] for name in TEXT_INPUTS}


def build_network(model, *, images=True, text=True, dtype=None):
    """A `PreTrainingNetwork` from the `model` section of a config.

    Args:
        model: mapping with `ViTBertBackbone`'s arguments and `num_classes`.
        images, text: bool, the modalities to build.
        dtype: a Keras dtype policy.
    """
    arguments = dict(model)
    num_classes = arguments.pop("num_classes")
    if not images:
        arguments["image_size"] = num_classes = None
    if not text:
        arguments["vocabulary_size"] = None
    backbone = ViTBertBackbone(**arguments, dtype=dtype, name="backbone")
    return PreTrainingNetwork(backbone, num_classes, name="network")

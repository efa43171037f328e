"""A trained model for what comes after training: backbone, heads, words and names in one place."""

import dataclasses
from typing import Any

import keras

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.heads import MLPHead

CENTRAL_CROP = 0.875


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A model that was trained, and what it takes to use it.

    Attributes:
        path: str, the folder it comes from.
        name: str, the variant or the task.
        backbone: `ViTBertBackbone`.
        heads: dict of layers: `image` and `text`, an `MLPHead` on the class token of that
            modality, and `mlm`, a `MaskedLMHead`; those that were trained.
        classes: list of str, the names of the classes in order, or None.
        vocabulary: list of str, or None.
        lower_case: bool, of the vocabulary.
        central_crop: float, of images: the fraction of the shorter side that is seen.
        record: dict, the content of the run's config.json; empty where there is none.
        summary: dict, what the run measured; empty where there is none.
        origin: str, who trained the weights, in a sentence; empty for this project.
        network: the Keras model as it was trained: `PreTrainingNetwork` of a run of `pretrain`,
            `Classifier` of one of `finetune` (updates of LoRA apart from the kernels), the task or
            backbone of a preset, the backbone of an imported model.
        step: int, of the checkpoint; 0 where there is none.
        checkpoint: str, the folder of the checkpoint; empty where there is none.
    """

    path: str
    name: str
    backbone: ViTBertBackbone
    heads: dict[str, MLPHead]
    classes: list[str] | None = None
    vocabulary: list[str] | None = None
    lower_case: bool = True
    central_crop: float = CENTRAL_CROP
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    summary: dict[str, Any] = dataclasses.field(default_factory=dict)
    origin: str = ""
    network: keras.Model | None = None
    step: int = 0
    checkpoint: str = ""

    @property
    def has_lora(self):
        """Whether kernels of the backbone have low-rank updates beside them."""
        layers = self.backbone._flatten_layers()
        return any(getattr(layer, "lora_enabled", False) for layer in layers)

    def in_dtype(self, dtype):
        """The same in another dtype policy, with updates of LoRA added to the kernels.

        Args:
            dtype: str, such as `bfloat16`, in which the variables are then kept as well.
        """
        backbone = _rebuilt(self.backbone, dtype)
        heads = {name: _rebuilt(head, dtype) for name, head in self.heads.items()}
        return dataclasses.replace(self, backbone=backbone, heads=heads)


def _rebuilt(layer, dtype):
    """A layer or model with the same weights in another dtype policy, and without LoRA."""
    new = type(layer).from_config({**layer.get_config(), "dtype": dtype})
    if not new.built:
        new.build((None, None, layer.hidden.kernel.shape[0]))
    for ours, theirs in zip(new._flatten_layers(), layer._flatten_layers(), strict=True):
        if getattr(theirs, "lora_enabled", False):
            ours.kernel.assign(keras.ops.convert_to_numpy(theirs.kernel))
            if ours.bias is not None:
                ours.bias.assign(keras.ops.convert_to_numpy(theirs.bias))
            continue
        mine = [*ours._trainable_variables, *ours._non_trainable_variables]
        other = [*theirs._trainable_variables, *theirs._non_trainable_variables]
        for variable, value in zip(mine, other, strict=True):
            variable.assign(keras.ops.cast(value.value, variable.dtype))
    return new

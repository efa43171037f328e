"""Tasks of keras-hub, and of this project's `hub`, from the folders of their presets."""

import os

import keras
import keras_hub
import numpy as np

from keras_vitbert.importing.sources import read_json
from keras_vitbert.importing.tensors import require_finite
from keras_vitbert.model.heads import logits_policy
from pipelines.command_line import UserError, one_line

_TEXT_INPUTS = ("mask_positions", "padding_mask", "segment_ids", "token_ids")


def load_image_classifier(source, dtype=None):
    """Loads the image classifier of a preset.

    Args:
        source: `sources.Source`, a preset.
        dtype: a Keras dtype policy.

    Returns:
        dict, the arguments of an `ImageTeacher`.

    Raises:
        UserError: it holds no trained image classifier, or is damaged.
    """
    task = _load_task(source, keras_hub.models.ImageClassifier, "image classifier", dtype)
    if keras.activations.serialize(keras.activations.get(task.activation)) not in ("linear", None):
        # This one returns probabilities, but logits are needed.
        task = _load_task(
            source, keras_hub.models.ImageClassifier, "image classifier", dtype, activation=None
        )
    if (head := getattr(task, "output_dense", None)) is not None:
        head.dtype_policy = logits_policy(head.dtype_policy)
    *size, channels = task.inputs[0].shape[1:]
    if len(task.inputs) != 1 or channels != 3:
        raise UserError(
            f"{source.label}: takes images of shape {tuple(task.inputs[0].shape[1:])}; give a "
            "classifier of RGB images, channels last"
        )
    converter = getattr(task.preprocessor, "image_converter", None)
    if None in size:
        size = getattr(converter, "image_size", None)
    scale, offset = _scale_and_offset(converter)
    return {
        "classifier": task,
        "image_size": size,
        "scale": scale,
        "offset": offset,
        "num_classes": task.num_classes,
        "labels": getattr(task.preprocessor, "class_names", None),
    }


def load_masked_lm(source, dtype=None):
    """Loads the masked-LM of a preset.

    Args:
        source: `sources.Source`, a preset.
        dtype: a Keras dtype policy.

    Returns:
        dict, the arguments of a `TextTeacher` except `columns`.

    Raises:
        UserError: it holds no trained masked-LM, takes other inputs, or is damaged.
    """
    task = _load_task(source, keras_hub.models.MaskedLM, "masked-LM", dtype)
    inputs = tuple(sorted(task.input)) if isinstance(task.input, dict) else ()
    if inputs != _TEXT_INPUTS:
        raise UserError(
            f"{source.label}: takes {', '.join(inputs) or 'one input'}; give a masked-LM of BERT's "
            f"kind, which takes {', '.join(_TEXT_INPUTS)}"
        )
    if (head := getattr(task, "masked_lm_head", None)) is not None:
        head.dtype_policy = logits_policy(head.dtype_policy)
        if head.token_embedding is not None:
            head.token_embedding.reverse_dtype = head.compute_dtype
    tokenizer = getattr(task.preprocessor, "tokenizer", None)
    if not hasattr(tokenizer, "get_vocabulary"):
        raise UserError(
            f"{source.label}: has no tokenizer with a vocabulary; save the preset with its "
            "preprocessor"
        )
    return {
        "network": task,
        "vocabulary": list(tokenizer.get_vocabulary()),
        "vocabulary_size": task.outputs[0].shape[-1],
        "max_sequence_length": getattr(task.backbone, "max_sequence_length", None),
        "has_next_sentence": False,
    }


def load_vit(source):
    """Loads the `ViTBackbone` of a preset, without its classifier.

    Args:
        source: `sources.Source`, a preset.

    Returns:
        (`keras_hub.models.ViTBackbone`, and the scale and the offset that make its input of images
        in [0, 1]: floats, or arrays of three).

    Raises:
        UserError: it holds another backbone, or is damaged.
    """
    name = source.config.get("class_name")
    if name != "ViTBackbone":
        raise UserError(f"{source.label}: is a preset of a {name}; give one of a ViTBackbone")
    backbone = _loaded(source, keras_hub.models.ViTBackbone)
    image, patch = backbone.image_shape[:2], tuple(backbone.patch_size)
    parts = ("use_class_token", "use_patch_bias", "use_mlp_bias")
    missing = [part for part in parts if not getattr(backbone, part)]
    if missing or len(set(image)) > 1 or len(set(patch)) > 1:
        raise UserError(
            f"{source.label}: its ViTBackbone has images of {image}, patches of {patch} and "
            f"{', '.join(f'{part}=False' for part in missing) or 'all its parts'}; give a ViT of "
            "square images and patches with class token and biases"
        )
    weights = {weight.path: keras.ops.convert_to_numpy(weight) for weight in backbone.weights}
    require_finite(weights, source.label)
    if not os.path.exists(os.path.join(source.path, "image_converter.json")):
        return backbone, 2.0, -1.0
    return backbone, *_scale_and_offset(_loaded(source, keras_hub.layers.ImageConverter))


def _load_task(source, cls, what, dtype, **options):
    """The task that a preset holds, with the weights of its head."""
    import keras_vitbert.hub  # noqa: F401  (it registers this project's tasks)

    label = source.label
    config = read_json(os.path.join(source.path, "task.json"), label) or {}
    held_class = keras.saving.get_registered_object(str(config.get("registered_name")))
    # Otherwise keras-hub would give the backbone a head with random weights.
    if held_class is None or not issubclass(held_class, cls):
        held = f"a {config.get('class_name')}" if config else "a backbone alone"
        raise UserError(
            f"{label}: is the preset of {held}, and holds no trained {what}; give one that does"
        )
    task = _loaded(source, cls, dtype=dtype, **options)
    if task.has_task_weights() and not os.path.exists(os.path.join(source.path, "task.weights.h5")):
        raise UserError(f"{label}: task.weights.h5 is missing; restore it")
    return task


def _loaded(source, cls, **options):
    try:
        return cls.from_preset(source.path, **options)
    # Keras raises many kinds of errors for missing, damaged or unexpected files.
    except Exception as error:
        raise UserError(
            f"{source.label}: cannot be loaded as {cls.__name__} of keras-hub "
            f"({type(error).__name__}: {one_line(error)[:200]}); give another preset"
        ) from error


def _scale_and_offset(converter):
    """The factor and offset of a converter for images in [0, 1]: floats, or one a channel.

    Without a converter the model gets images in [0, 1].
    """
    if converter is None:
        return 1.0, 0.0
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    return 255 * np.asarray(scale, np.float64), np.asarray(offset, np.float64)

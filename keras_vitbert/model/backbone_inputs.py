"""The inputs of a backbone: modalities, masks, ranges, and the scale of images.

Values are checked where that is possible, in an eager call: a graph that is being traced has no
values yet, and its steps do not pay for the check.
"""

from typing import Any

import numpy as np

from keras_vitbert.model.tensors import Tensor, Tensors, ops

Backbone = Any  # a `ViTBertBackbone`, whose module imports this one
_TEXTS = ("token_ids", "segment_ids", "padding_mask")
_TOLERANCE = 0.01  # of the scale of floats, for resizing and for bfloat16
# One scale in the whole Python API.
WRONG_INTEGERS = "integers are 0 to 255: convert them to that range, or give floats in [0, 1]"
WRONG_SCALE = "floats are 0 to 1: divide them by 255, or give the integers that they come from"


def scaled(images: Tensor) -> Tensor:
    """Images as floats in [0, 1]; integers become float32.

    Args:
        images: `(batch, height, width, 3)`, integers in 0 to 255 or floats in [0, 1].

    Raises:
        ValueError: integers are outside 0 to 255 or have 16 bits, or floats are outside [0, 1].
    """
    kind = str(images.dtype)
    if "uint16" in kind:
        raise ValueError(f"images: integers of 16 bits; {WRONG_INTEGERS}")
    if "uint8" not in kind:
        values, is_float = _known(images), "int" not in kind
        least, most = (-_TOLERANCE, 1 + _TOLERANCE) if is_float else (0, 255)
        with np.errstate(invalid="ignore"):  # NaN has no scale; training has its own check
            if values is not None and ((values < least) | (values > most)).any():
                ends = f"from {float(np.nanmin(values)):.4g} to {float(np.nanmax(values)):.4g}"
                raise ValueError(f"images: {ends}; {WRONG_SCALE if is_float else WRONG_INTEGERS}")
        if is_float:
            return images
    return ops.cast(images, "float32") * (1 / 255)


def streams_of(backbone: Backbone, inputs: dict) -> list[str]:
    """The modalities of a backbone that its inputs contain: `image`, `text`."""
    streams = []
    if backbone.image_embedding is not None and "images" in inputs:
        streams.append("image")
    if backbone.text_embedding is not None and "token_ids" in inputs:
        streams.append("text")
    return streams


def masks_of(inputs: dict) -> Tensors:
    """The masks that a block takes for text.

    `padding_mask` or, where rows hold several texts, `attention_mask` `(batch, length, length)`.
    """
    texts = inputs["padding_mask"]
    if "position_ids" not in inputs:
        return {"padding_mask": texts}
    return {"attention_mask": texts[:, :, None] == texts[:, None, :]}


def require_below(limit: int, ids: Tensor, name: str) -> None:
    """Refuses integers outside of `[0, limit)`: negative ones would count from the end."""
    values = _known(ids)
    if values is not None and (wrong := (values < 0) | (values >= limit)).any():
        raise ValueError(f"{name}: {values[wrong][0]} is not in [0, {limit})")


def check_inputs(backbone: Backbone, inputs: Any) -> None:
    """Refuses inputs that are missing, have the wrong shape, or are out of range.

    Raises:
        ValueError: names the input.
    """
    streams = streams_of(backbone, inputs) if isinstance(inputs, dict) else []
    if not streams:
        names = ", ".join(x.name for x in backbone.inputs)
        raise ValueError(f"inputs: must be a dict of one modality at least, of {names}")
    shapes = {}
    if "image" in streams:
        shapes["images"] = (None, backbone.image_size, backbone.image_size, 3)
    if "text" in streams:
        shape = tuple(inputs["token_ids"].shape)
        shape = shape if len(shape) == 2 else (None, None)
        packed = ["position_ids"] if "position_ids" in inputs else []
        shapes |= dict.fromkeys([*_TEXTS, *packed], shape)
    for name, shape in shapes.items():
        given = tuple(inputs[name].shape) if name in inputs else None
        if given is None or not _may_be(given, shape):
            raise ValueError(f"{name}: shape {given or 'missing'}, expected {shape}")
    if "text" not in streams:
        return
    length, limit = inputs["token_ids"].shape[1], backbone.max_sequence_length
    if length is not None and length > limit:
        raise ValueError(f"token_ids: {length} tokens, at most max_sequence_length={limit}")
    require_below(backbone.vocabulary_size or 0, inputs["token_ids"], "token_ids")
    if backbone.num_segments:
        require_below(backbone.num_segments, inputs["segment_ids"], "segment_ids")
    if "position_ids" in inputs:
        require_below(limit, inputs["position_ids"], "position_ids")


def _may_be(shape: tuple[int | None, ...], wanted: tuple[int | None, ...]) -> bool:
    """Whether a shape is the one wanted, as far as both are known."""
    return len(shape) == len(wanted) and all(
        None in pair or pair[0] == pair[1] for pair in zip(shape, wanted, strict=True)
    )


def _known(tensor: Tensor) -> np.ndarray | None:
    """The values of a tensor; None in a graph that is being traced."""
    try:
        return np.asarray(tensor)
    except (NotImplementedError, TypeError, ValueError):  # symbolic
        return None

"""The inputs of a backbone: which modalities they contain, and whether they are in range.

Values are checked where that is possible, in an eager call: a graph that is being traced has no
values yet, and its steps do not pay for the check.
"""

import numpy as np

_TEXT_INPUTS = {  # their meaning, for messages
    "token_ids": "integers",
    "segment_ids": "0, and 1 in the second text of a pair",
    "padding_mask": "1, and 0 for padding",
}
_OF_PACKED = {"position_ids": "the place of a token in its text, where rows hold several"}


def streams_of(backbone, inputs):
    """The modalities of a backbone that its inputs contain.

    Args:
        backbone: `ViTBertBackbone`.
        inputs: dict, see `ViTBertBackbone`.

    Returns:
        list of `image` and `text`.
    """
    streams = []
    if backbone.image_embedding is not None and "images" in inputs:
        streams.append("image")
    if backbone.text_embedding is not None and "token_ids" in inputs:
        streams.append("text")
    return streams


def masks_of(inputs):
    """The masks that a block takes for text.

    Args:
        inputs: dict, see `ViTBertBackbone`.

    Returns:
        dict of `padding_mask` or, where rows hold several texts, `attention_mask`
        `(batch, length, length)`.
    """
    texts = inputs["padding_mask"]
    if "position_ids" not in inputs:
        return {"padding_mask": texts}
    return {"attention_mask": texts[:, :, None] == texts[:, None, :]}


def known_values(tensor):
    """The values of a tensor: array, or None in a graph that is being traced.

    Args:
        tensor: tensor or array.
    """
    try:
        return np.asarray(tensor)
    except (NotImplementedError, TypeError, ValueError):  # symbolic
        return None


def require_below(limit, ids, name):
    """Refuses integers outside of `[0, limit)`: negative ones would count from the end.

    Args:
        limit: int.
        ids: tensor or array of integers.
        name: str, what they are, for the message.

    Raises:
        ValueError: names them and shows one.
    """
    values = known_values(ids)
    if values is not None and (wrong := (values < 0) | (values >= limit)).any():
        raise ValueError(f"{name}: {values[wrong][0]} is not in [0, {limit})")


def check_inputs(backbone, inputs):
    """Refuses inputs that are missing, have the wrong shape, or are out of range.

    Args:
        backbone: `ViTBertBackbone`.
        inputs: what the backbone is called on.

    Raises:
        ValueError: names the input and the fix.
    """
    names = [x.name for x in backbone.inputs]
    if not isinstance(inputs, dict):
        raise ValueError(f"the inputs are {type(inputs).__name__}; give a dict of {names}")
    streams = streams_of(backbone, inputs)
    if not streams:
        raise ValueError(
            f"the inputs {sorted(inputs)} contain no modality of this model, which takes {names}"
        )
    if "image" in streams:
        size, shape = backbone.image_size, tuple(inputs["images"].shape)
        if not _may_be(shape, (None, size, size, 3)):
            raise ValueError(
                f"images: shape {shape}, expected (batch, {size}, {size}, 3); resize "
                f"them, keras.ops.image.resize(images, ({size}, {size}))"
            )
    if "text" in streams:
        limit = backbone.max_sequence_length
        _check_text(inputs, limit)
        require_below(backbone.vocabulary_size, inputs["token_ids"], "token_ids")
        if backbone.num_segments:
            require_below(backbone.num_segments, inputs["segment_ids"], "segment_ids")
        if "position_ids" in inputs:
            require_below(limit, inputs["position_ids"], "position_ids")


def _check_text(inputs, limit):
    shape = tuple(inputs["token_ids"].shape)
    given = {name: meaning for name, meaning in _OF_PACKED.items() if name in inputs}
    for name, meaning in {**_TEXT_INPUTS, **given}.items():
        if name not in inputs:
            raise ValueError(
                f"{name}: is missing; it must have the shape of token_ids, (batch, length): "
                f"{meaning}"
            )
        found = tuple(inputs[name].shape)
        if len(found) != 2 or not _may_be(found, shape):
            wanted = "(batch, length)" if name == "token_ids" else f"that of token_ids, {shape}"
            raise ValueError(f"{name}: shape {found}, expected {wanted}; give {meaning}")
    if shape[1] is not None and shape[1] > limit:
        raise ValueError(
            f"token_ids: shape {shape}, expected at most (batch, {limit}); cut the "
            f"texts, or build the model with max_sequence_length={shape[1]}"
        )


def _may_be(shape, wanted):
    """Whether a shape is the one wanted, as far as both are known."""
    return len(shape) == len(wanted) and all(
        None in pair or pair[0] == pair[1] for pair in zip(shape, wanted, strict=True)
    )

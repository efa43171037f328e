"""Where a shared variable belongs: its block, and what kind of weight it is."""

KINDS = ("query", "key", "value", "output", "mlp_in", "mlp_out", "norms")

_LAYERS = {
    "query": "query",
    "key": "key",
    "value": "value",
    "attention_output": "output",
    "feedforward_intermediate_dense": "mlp_in",
    "feedforward_output_dense": "mlp_out",
    "self_attention_layer_norm": "norms",
    "feedforward_layer_norm": "norms",
    "final_norm": "norms",
}


def block_of(path):
    """`block_0` ... or `final_norm`, of a variable's path in the encoder."""
    return path.split("/")[0]


def kind_of(path):
    """The kind of weight, of `KINDS`, that a variable of the encoder belongs to, biases included.

    Raises:
        ValueError: it is of no known layer.
    """
    layer = path.split("/")[-2]
    if layer not in _LAYERS:
        raise ValueError(f"{path} is of no layer of the encoder")
    return _LAYERS[layer]

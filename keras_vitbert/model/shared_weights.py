"""Which block a shared variable belongs to, and what kind of weight it is, by its path."""

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
    "embedding_norm": "norms",
    "final_norm": "norms",
}


def block_of(path: str) -> str:
    """The block of a shared variable: `block_0` ..., `embedding_norm` or `final_norm`."""
    return path.split("/")[0]


def is_in_blocks(path: str, blocks: tuple[int, int] | None) -> bool:
    """Whether a shared variable is in a range of blocks, first and end; None: all of them."""
    if blocks is None:
        return True
    kind, _, number = block_of(path).rpartition("_")
    return kind == "block" and number.isdecimal() and blocks[0] <= int(number) < blocks[1]


def kind_of(path: str) -> str:
    """The kind of a shared variable, one of `KINDS`; a bias has that of its kernel."""
    return _LAYERS[path.split("/")[-2]]

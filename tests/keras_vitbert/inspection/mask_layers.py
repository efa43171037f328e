"""What a variable's path holds of the layer, by the kind of its weights."""

LAYERS = {
    "query": "self_attention_layer/query/",
    "key": "self_attention_layer/key/",
    "value": "self_attention_layer/value/",
    "output": "self_attention_layer/attention_output/",
    "mlp_in": "feedforward_intermediate_dense/",
    "mlp_out": "feedforward_output_dense/",
    "norms": ("self_attention_layer_norm/", "feedforward_layer_norm/", "final_norm/"),
}

import numpy as np
import pytest

from keras_vitbert.inspection.activations import look_inside


def layer_norm(x, layer):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    gamma, beta = (np.asarray(weight, np.float64) for weight in (layer.gamma, layer.beta))
    return (x - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta


def attention_by_hand(x, block, padding_mask):
    """softmax(q k / sqrt(d)) of eq. 3 in float64, from the block's own kernels."""
    layer = block._self_attention_layer
    x = layer_norm(x, block._self_attention_layer_norm)
    query, key = (
        np.einsum("btd,dhk->bhtk", x, np.asarray(dense.kernel, np.float64))
        + np.asarray(dense.bias, np.float64)[:, None]
        for dense in (layer._query_dense, layer._key_dense)
    )
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    scores = np.where(padding_mask[:, None, None].astype(bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_attention_and_activations_of_every_block(network, make_batch, modality):
    backbone, batch = network.backbone, make_batch(0)
    names = ("images",) if modality == "image" else ("token_ids", "segment_ids", "padding_mask")
    inputs = {name: batch[name] for name in names}
    attention, activation = map(np.asarray, look_inside(backbone, inputs))

    x = backbone.image_embedding(batch["images"]) if modality == "image" else None
    if modality == "text":
        x = backbone.text_embedding(batch["token_ids"], batch["segment_ids"])
    mask = inputs.get("padding_mask", np.ones(x.shape[:2]))
    for number, block in enumerate(backbone.blocks):
        expected = attention_by_hand(np.asarray(x, np.float64), block, mask)
        np.testing.assert_allclose(attention[:, number], expected, atol=1e-5)
        x = block(x, padding_mask=mask)
        expected = np.abs(np.asarray(x, np.float64)).mean(-1)
        np.testing.assert_allclose(activation[:, number], expected, rtol=1e-5)
    # The last block's output is what the backbone goes on with.
    sequence = backbone(inputs)[f"{modality}_sequence"]
    np.testing.assert_allclose(backbone.final_norm(x), sequence, atol=1e-5)
    assert np.ptp(attention[:, 1] - attention[:, 0]) > 0.05  # blocks differ, and so do heads
    assert np.ptp(attention[:, 0, 1] - attention[:, 0, 0]) > 0.05

"""Values that are set by hand."""

import numpy as np
import pytest

from keras_vitbert.inspection.values import MaskValues

UNITS, HIDDEN, WIDE = 20, 8, 12
SHAPES = {
    "self_attention_layer/query": (HIDDEN, 2, HIDDEN // 2),
    "self_attention_layer/key": (HIDDEN, 2, HIDDEN // 2),
    "self_attention_layer/value": (HIDDEN, 2, HIDDEN // 2),
    "self_attention_layer/attention_output": (2, HIDDEN // 2, HIDDEN),
    "feedforward_intermediate_dense": (HIDDEN, WIDE),
    "feedforward_output_dense": (WIDE, HIDDEN),
}
LIMITS = {3: 0.1, 5: 0.3, 7: 0.55}  # step to what is cleared below


@pytest.fixture(scope="session")
def activations():
    """Six steps and three blocks; in the last block, text comes to have the images' units."""
    random = np.random.default_rng(0)
    found = {}
    for number, step in enumerate((0, 10, 20, 30, 40, 55)):
        image, text = random.gamma(1, 1, (2, 3, UNITS)).astype(np.float32)
        text[2] += (image[2] - text[2]) * number / 5
        found[step] = image, text
    return found


@pytest.fixture(scope="session")
def importance():
    """Of four blocks and the closing norm; what is less than a limit is cleared."""
    random = np.random.default_rng(2)
    found = {}
    for block in range(4):
        for layer, shape in SHAPES.items():
            found[f"block_{block}/{layer}/kernel"] = random.random(shape) * (1.4 - 0.2 * block)
            found[f"block_{block}/{layer}/bias"] = random.random(shape[-1])
        found[f"block_{block}/feedforward_layer_norm/gamma"] = random.random(HIDDEN)
    found["final_norm/gamma"] = random.random(HIDDEN)
    return found


@pytest.fixture(scope="session")
def updates(importance):
    return [
        MaskValues.from_masks(step, {path: values > limit for path, values in importance.items()})
        for step, limit in LIMITS.items()
    ]

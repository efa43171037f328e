"""Values that are set by hand, and `drawn`, which draws."""

import numpy as np
import pytest

from keras_vitbert.inspection.mask_values import MaskValues
from keras_vitbert.inspection.sheet import style
from tests.keras_vitbert.paper_figures.artists import (
    HIDDEN,
    LIMITS,
    SHAPES,
    UNITS,
    assert_within_the_page,
    masks_of,
)


@pytest.fixture(scope="session")
def drawn():
    """`drawn(draw, *arguments)`: the sheet, after a look at its edges."""

    def drawn(draw, *arguments):
        with style():
            sheet = draw(*arguments)
            sheet.picture()
            assert_within_the_page(sheet)
        return sheet

    return drawn


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
    return [MaskValues.of(step, masks_of(importance, limit)) for step, limit in LIMITS.items()]

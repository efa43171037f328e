"""Figure 5 shows masks as they are, or averaged."""

import numpy as np
import pytest

from keras_vitbert.inspection.mask_values import MaskValues
from keras_vitbert.model.shared_weights import KINDS
from keras_vitbert.paper_figures import mask_figure
from tests.keras_vitbert.paper_figures.artists import HIDDEN, LIMITS, by_label


def test_masks_are_drawn_as_they_are(updates, importance, drawn):
    figure = drawn(mask_figure.draw, updates, "run")
    panels = by_label(figure, "block_")
    assert len(panels) == 3 * 6 * 3  # blocks, matrices, updates
    for step, limit in LIMITS.items():
        for block in (0, 2, 3):
            for kind, layer, is_turned in (
                ("key", "self_attention_layer/key", False),
                ("output", "self_attention_layer/attention_output", True),
                ("mlp_in", "feedforward_intermediate_dense", False),
                ("mlp_out", "feedforward_output_dense", True),
            ):
                cleared = importance[f"block_{block}/{layer}/kernel"] <= limit
                rows = cleared.reshape(-1, HIDDEN).T if is_turned else cleared.reshape(HIDDEN, -1)
                (image,) = panels[f"block_{block}, {kind}, step {step}"].get_images()
                np.testing.assert_array_equal(np.asarray(image.get_array()), rows)
                assert image.get_clim() == (0, 1)
    assert any("a cell: an entry" in text.get_text() for text in figure.texts)


def test_large_masks_are_averaged(drawn):
    random = np.random.default_rng(3)
    kernel = random.random((64, 256)) < 0.4
    square = random.random((64, 64)) < 0.7
    kept = {"query": square, "mlp_in": kernel, "mlp_out": kernel.T}
    counts = np.ones((1, len(KINDS)), np.int64)
    figure = drawn(
        mask_figure.draw, [MaskValues(9, ["block_0"], counts, counts, {"block_0": kept})], "r"
    )
    (image,) = by_label(figure, "block_0, mlp_in")["block_0, mlp_in, step 9"].get_images()
    expected = 1 - kernel.reshape(32, 2, 128, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(np.asarray(image.get_array()), expected)
    assert any("mean of 2 × 2 entries" in text.get_text() for text in figure.texts)


@pytest.mark.parametrize(
    ("hidden", "wide", "factor"), [(768, 3072, 24), (128, 512, 4), (8, 12, 1), (101, 409, 4)]
)
def test_factor(hidden, wide, factor):
    assert mask_figure.factor_of([(hidden, hidden)] * 4 + [(hidden, wide)] * 2) == factor

"""Figure 5 shows the masks of three blocks."""

import numpy as np

from keras_vitbert.inspection.sheet import colours
from keras_vitbert.paper_figures.drawing import _mask_figure
from tests.keras_vitbert.paper_figures.artists import HIDDEN, LIMITS, SHAPES, images_of, texts_of


def test_masks_are_drawn_as_they_are(updates, importance, drawn):
    sheet = drawn(_mask_figure, updates, "a run")
    images = images_of(sheet)
    assert len(images) == 3 * 3 * 6 + 1  # blocks, updates, matrices; and the scale
    expected = []
    for block in (0, 2, 3):
        for limit in LIMITS.values():
            for layer in SHAPES:
                cleared = importance[f"block_{block}/{layer}/kernel"] <= limit
                is_turned = "output" in layer  # the hidden state goes down
                rows = cleared.reshape(-1, HIDDEN).T if is_turned else cleared.reshape(HIDDEN, -1)
                expected.append(colours(rows))
    for found, cells in zip(images, expected, strict=False):
        np.testing.assert_array_equal(found, cells)
    texts = texts_of(sheet)
    assert texts[1] == "run: a run" and [t for t in texts if t.startswith("block")] == [
        *("block 0", "block 2", "block 3")
    ]
    for block in ("block_0", "block_2", "block_3"):
        for update in updates:
            assert f"{update.of_blocks[block]:.1%}" in texts

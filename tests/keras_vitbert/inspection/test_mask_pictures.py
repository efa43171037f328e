"""TensorBoard's pictures of masks that are set by hand."""

import numpy as np

from keras_vitbert.inspection.mask_pictures import block_picture, sparsity_chart
from keras_vitbert.inspection.mask_values import MaskValues, fraction
from keras_vitbert.inspection.sheet import colours


def test_pictures_are_small_and_many_updates_are_thinned(masks):
    updates = [MaskValues.of(step, masks) for step in range(1, 30)]
    picture = block_picture(updates, "block_0")
    height, width, _ = picture.shape
    assert picture.dtype == np.uint8 and height < 1300 and width < 1100
    assert abs(block_picture(updates[:8], "block_0").shape[0] - height) < 25  # without the note
    assert block_picture(updates[:7], "block_0").shape[0] < height - 25
    assert np.all(picture[:4] == 255) and np.all(picture[-4:] == 255)
    assert np.all(picture[:, :4] == 255) and np.all(picture[:, -4:] == 255)


def test_the_chart_has_the_colour_of_each_number(masks):
    values = MaskValues.of(1, masks)
    chart = sparsity_chart(values)
    assert chart.dtype == np.uint8 and max(chart.shape) < 1000
    counts = [
        np.block([[table, table.sum(1, keepdims=True)], [table.sum(0), table.sum()]])
        for table in (values.cleared, values.entries)
    ]
    expected = fraction(*counts)
    assert expected.shape == (4, 8) and np.isnan(expected).sum() == 6
    # A corner of each cell: the numbers stand in the middle.
    top, left, height, width = 84, 115, 0.18 * 144, 0.45 * 144
    for row, column in np.ndindex(*expected.shape):
        corner = chart[round(top + row * height) + 2, round(left + column * width) + 2]
        number = expected[row, column]
        shown = [255] * 3 if np.isnan(number) else colours([number])[0].tolist()
        assert corner.tolist() == shown
    assert np.all(chart[:, :4] == 255) and np.all(chart[:, -4:] == 255)


def test_the_chart_has_the_numbers(masks, monkeypatch):
    from keras_vitbert.inspection import mask_pictures

    sheets = []

    class Sheet(mask_pictures.Sheet):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            sheets.append(self)

    monkeypatch.setattr(mask_pictures, "Sheet", Sheet)
    values = MaskValues.of(1200, masks)
    sparsity_chart(values)
    texts = [text.get_text() for text in sheets[0].figure.texts]
    assert texts[0] == "Sparsity of the gradient masks, step 1,200"
    names = ["query", "key", "value", "output", "MLP in", "MLP out", "norms", "all"]
    assert texts[2:10] == names
    start = 10
    for row, block in enumerate(values.blocks):
        known = values.entries[row] > 0
        assert texts[start] == block.replace("_", " ")
        expected = [*(values.cleared[row, known] / values.entries[row, known])]
        expected.append(values.of_blocks[block])
        assert texts[start + 1 : start + 1 + len(expected)] == [f"{x:.1%}" for x in expected]
        start += 1 + len(expected)
    expected = [*values.of_kinds.values(), values.overall]
    assert texts[start : start + 9] == ["all", *(f"{number:.1%}" for number in expected)]

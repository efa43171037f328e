"""The picture of both gradients: its numbers, and bars of their lengths."""

import numpy as np
import pytest

from keras_vitbert.inspection import conflict_picture
from tests.keras_vitbert.paper_figures.artists import images_of


def test_every_number_stands_beside_its_bar(monkeypatch):
    bars = []

    class Sheet(conflict_picture.Sheet):
        def image(self, left, top, width, height, cells):
            bars.append((left, width))
            super().image(left, top, width, height, cells)

    monkeypatch.setattr(conflict_picture, "Sheet", Sheet)
    values = {
        "block_0": {"cosine": 0.1, "norm_ratio": 2.0, "opposite_sign": 0.25},
        "block_1": {"cosine": -0.2, "norm_ratio": 0.5, "opposite_sign": 0.5},
        "all": {"cosine": 0.0, "norm_ratio": np.nan, "opposite_sign": 0.5},
    }
    sheet = conflict_picture._sheet(values, 1500)
    shown = [text.get_text() for text in sheet.figure.texts]
    assert shown[0] == "Both gradients by block, step 1,500"
    assert shown[2:5] == ["block 0", "block 1", "all"]
    numbers = [
        ["cosine", "0.100", "-0.200", "0.000"],
        ["norm, text / image", "2.00", "0.50", "nan"],
    ]
    numbers.append(["entries of opposite sign", "0.25", "0.50", "0.50"])
    assert shown[5:] == sum(numbers, [])

    cosines, line, ratios, signs = bars[:3], bars[3], bars[4:7], bars[7:]
    longest = cosines[1][1]
    assert cosines[0] == pytest.approx((line[0], longest / 2))  # to the right of the line
    assert sum(cosines[1]) == pytest.approx(line[0])  # to the left
    assert [width for _, width in ratios] == pytest.approx([2 * longest, longest / 2, 0.01])
    assert [width for _, width in signs] == pytest.approx([longest, 2 * longest, 2 * longest])
    colours = [tuple(cells[0, 0]) for cells in images_of(sheet)[:3]]
    assert colours[0] == colours[2] != colours[1]

    picture = conflict_picture.conflict_picture(values, 1500)
    assert picture.dtype == np.uint8
    for edge in (picture[:4], picture[-4:], picture[:, :4], picture[:, -4:]):
        assert np.all(edge == 255)

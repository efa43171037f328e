import base64
import html.parser
import io
import re

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from keras_vitbert.demo_page import drawing
from keras_vitbert.demo_page.answers import Shown
from keras_vitbert.demo_page.drawing import ACTIVATION, ATTENTION, View

NASTY = '<img src=x onerror="alert(1)">&'


def shown(tokens=(), rows=("the class token",), answers=None):
    """Two blocks of three heads with random values."""
    random = np.random.default_rng(0)
    picture = None if tokens else random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    length = len(tokens) or 5
    attention = random.dirichlet(np.ones(length), (2, 3, len(rows)))
    activation = random.uniform(1, 2, (2, length))
    return Shown(answers or {}, [], list(rows), attention, activation, picture, list(tokens))


class Elements(html.parser.HTMLParser):
    """All elements of a panel, as (name, attributes), and its letters."""

    def __init__(self, text):
        super().__init__()
        self.found, self.letters = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.letters += data

    def of(self, tag, css_class=None):
        return [a for t, a in self.found if t == tag and css_class in (None, a.get("class"))]


def pixels_of(image):
    data = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)))


def test_values_of_attention_and_activation():
    it = shown(rows=("mask 1", "mask 2"), tokens="abcd")
    mean = drawing.values_of(it, View(ATTENTION))
    np.testing.assert_allclose(mean["mask 2"], it.attention[:, :, 1].sum(1) / 3)
    one = drawing.values_of(it, View(ATTENTION, head=2))
    np.testing.assert_array_equal(one["mask 1"], it.attention[:, 2, 0])
    [every] = drawing.values_of(it, View(ACTIVATION, head=2)).values()
    np.testing.assert_array_equal(every, it.activation)


def test_each_patch_has_the_colour_of_its_value():
    picture = np.random.default_rng(1).integers(0, 256, (6, 9 - 3, 3), dtype=np.uint8)
    values = np.array([0.0, 0.1, 0.4, 0.2])
    found = drawing.overlay(picture, values, drawing.ends_of(values, ATTENTION))
    for row in range(6):
        for column in range(6):
            value = values[row // 3 * 2 + column // 3]
            colour = 255 * np.array(colormaps["viridis"](value / 0.4)[:3])
            grey = picture[row, column] @ [0.299, 0.587, 0.114]
            np.testing.assert_allclose(found[row, column], 0.7 * colour + 0.3 * grey, atol=1.5)


def test_activations_are_on_a_scale_from_their_lowest():
    values = np.array([3.0, 2.0, 4.0, 2.5])
    assert drawing.ends_of(values, ATTENTION) == (0, 4)
    assert drawing.ends_of(values, ACTIVATION) == (2, 4)
    black = np.zeros((2, 2, 3), np.uint8)
    found = drawing.overlay(black, values, (2.0, 4.0))
    ends = [255 * np.array(colormaps["viridis"](end)[:3]) for end in (0.0, 1.0)]
    np.testing.assert_allclose(found[0, 1], 0.7 * ends[0], atol=1)
    np.testing.assert_allclose(found[1, 0], 0.7 * ends[1], atol=1)
    equal = drawing.overlay(black, np.ones(4), drawing.ends_of(np.ones(4), ACTIVATION))
    assert len(np.unique(equal.reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize("what", [ATTENTION, ACTIVATION])
def test_a_panel_of_an_image_shows_every_block(what):
    it = shown(answers={"": [("cat", 0.75), ("dog", 0.25)]})
    panel = drawing.panel(it, View(what, block=1))
    elements = Elements(panel)
    seen, large, *small = [pixels_of(image) for image in elements.of("img")]
    assert np.array_equal(seen, it.picture) and len(small) == 2
    assert np.array_equal(small[1], large) and not np.array_equal(small[0], large)
    [values] = drawing.values_of(it, View(what)).values()
    patches = values[1, 1:]  # without the class token
    expected = drawing.overlay(it.picture, patches, drawing.ends_of(patches, what))
    assert np.array_equal(large, expected)
    assert [bar["style"] for bar in elements.of("span", "vb-fill")] == [
        "width:75.00%",
        "width:25.00%",
    ]
    assert ("of its attention goes to the class token itself" in panel) == (what == ATTENTION)
    assert len(elements.of("figure", "vb-chosen")) == 1


def test_a_panel_of_a_text_colours_its_tokens():
    it = shown(tokens="abcd", rows=("mask 1", "mask 2"))
    elements = Elements(drawing.panel(it, View(ATTENTION, block=1, head=0)))
    tokens, cells = elements.of("span", "vb-token"), elements.of("td")
    assert len(tokens) == 2 * 4 and len(cells) == 2 * 2 * 4
    for row in range(2):
        values = it.attention[1, 0, row]
        for value, token in zip(values, tokens[4 * row : 4 * row + 4], strict=True):
            colour = bytes.fromhex(re.match("background:#(......)", token["style"])[1])
            expected = 255 * np.array(colormaps["viridis"](value / values.max())[:3])
            np.testing.assert_allclose(list(colour), expected, atol=1)
            assert float(token["title"]) == pytest.approx(value, rel=5e-3)


def test_a_block_or_head_that_a_model_lacks_is_named():
    assert "no block 2; its last is block 1" in drawing.panel(shown(), View(block=2))
    assert "no head 3; its last is head 2" in drawing.panel(shown(), View(head=3))
    assert "no head" not in drawing.panel(shown(), View(ACTIVATION, head=3))


def test_small_probabilities_are_not_nought():
    letters = Elements(drawing.bars({"": [("a", 0.0004), ("b", 0.0006), ("c", 0.0)]})).letters
    assert letters == "a<0.1%b0.1%c0.0%"


def test_names_and_tokens_are_no_html():
    it = shown(tokens=[NASTY, "b"], rows=[NASTY], answers={NASTY: [(NASTY, 0.5)]})
    it.notes.append(NASTY)
    for text in (drawing.panel(it, View()), drawing.error(NASTY), drawing.hint(NASTY)):
        elements = Elements(text)
        assert not elements.of("img") and NASTY in elements.letters

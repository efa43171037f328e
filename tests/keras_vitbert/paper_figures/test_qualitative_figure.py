"""Figure 6 shows what it is given."""

import numpy as np
import pytest

from keras_vitbert.paper_figures import qualitative_figure
from keras_vitbert.paper_figures.qualitative_values import Answer, ImageExample, TextExample
from tests.keras_vitbert.paper_figures.artists import by_label, images_of, texts_of


def examples(runs, name="cat", count=5):
    """Hand-made examples: probabilities differ from run to run."""
    random = np.random.default_rng(4)

    def answers(place):
        names = [name, "dog", "$x$", "W" * 40, "犬"]
        values = [0.5 - 0.04 * place, 0.25, 0.1, 0.05, 0.001]
        return [
            Answer(*pair, place == 0) for place, pair in enumerate(zip(names, values, strict=True))
        ]

    images = [
        ImageExample(
            number,
            random.integers(0, 255, (6, 6, 3), np.uint8),
            name,
            {run: answers(place + number) for place, run in enumerate(runs)},
        )
        for number in range(count)
    ]
    texts = [
        TextExample(
            number,
            [("so", 0), ("[MASK]", 1), *[("longer", 0)] * 60, ("W" * 200, 2)],
            [name, "other"],
            {run: [answers(place), answers(place + 1)] for place, run in enumerate(runs)},
        )
        for number in range(2)
    ]
    return images, texts


@pytest.mark.parametrize("runs", [["one"], ["a", "b", "a-long-name-of-a-run" * 4], list("abcdefg")])
def test_a_page_holds_images_bars_and_words(runs, drawn):
    images, texts = examples(runs)
    sheet = drawn(qualitative_figure.draw, images, texts, runs)
    panels = by_label(sheet, "image ")
    for example, shown in zip(images, images_of(sheet), strict=True):
        np.testing.assert_array_equal(shown, example.image)
        for run in runs:
            bars = panels[f"image {example.number}, {run}"].patches
            values = [bar.get_width() for bar in bars]
            assert values == [answer.probability for answer in example.answers[run]]
            colours = [bar.get_facecolor() for bar in bars]
            assert colours.count(colours[0]) == 1 and len(set(colours)) == 2
            written = [t.get_text() for t in panels[f"image {example.number}, {run}"].texts]
            assert written[0] == f"cat {values[0]:.0%} ✓" and written[1] == "dog 25%"
            assert written[4].endswith("<1%")
    shown = texts_of(sheet)
    assert sum(line.startswith("cat 50% ✓") for line in shown) == 2  # the first run's first gap
    assert sum("[1\u00a0MASK]" in line for line in shown) == 2


def test_a_page_of_one_modality(drawn):
    images, texts = examples(["run"], name="a very long name of a class " * 5)
    assert not images_of(drawn(qualitative_figure.draw, [], texts, ["run"]))
    whole = drawn(qualitative_figure.draw, images, texts, ["run"])
    only = drawn(qualitative_figure.draw, images, [], ["run"])
    assert only.height < whole.height

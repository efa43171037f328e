"""Figures of values that are set by hand, against NumPy."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from keras_vitbert.extras.paper_figures import figures
from keras_vitbert.extras.paper_figures.examples import Answer, Example
from keras_vitbert.extras.paper_figures.tradeoffs import points_of, tradeoff_figure
from keras_vitbert.model.shared_weights import KINDS
from tests.keras_vitbert.extras.paper_figures.conftest import LIMITS, UNITS
from tests.keras_vitbert.extras.paper_figures.test_tradeoffs import run as run_of
from tests.keras_vitbert.inspection.axes import by_label, cells_of, drawn, texts_of


def with_images(figure):
    return [axes for axes in figure.axes if axes.get_images()]


# --- figure 2 ------------------------------------------------------------------------------------


def test_points_are_the_means():
    values = ("nash", 0.4, 6.0), ("nash", 0.6, 5.0), ("mask", 0.9, 5.9), ("sum", 0.1, 7)
    figure = drawn(tradeoff_figure, points_of([run_of(*v) for v in values]))
    loss = by_label(figure, "mlm_loss")["mlm_loss"]
    marks = {
        tuple(line.get_xydata()[0]): to_hex(line.get_markerfacecolor())
        for line in loss.lines
        if line.get_marker() == "o"
    }
    assert set(marks) == {(0.5, 5.5), (0.9, 5.9), (0.1, 7.0)}
    assert marks[0.1, 7.0] == "#ffffff" and "#ffffff" not in (marks[0.5, 5.5], marks[0.9, 5.9])
    assert loss.yaxis_inverted()  # less is better, and up is better
    [legend] = figure.legends
    names = {text.get_text(): text.get_weight() for text in legend.get_texts()}
    assert names == {"1  nash (2 runs)": "bold", "2  mask": "bold", "3  sum": "normal"}


# --- figure 3 ------------------------------------------------------------------------------------


def test_blocks_that_are_shown():
    assert figures.chosen_blocks("", 12) == [0, 6, 11]
    assert figures.chosen_blocks("", 1) == [0]
    assert figures.chosen_blocks("all", 3) == [0, 1, 2]
    assert figures.chosen_blocks("2, 0,2", 3) == [0, 2]
    for text in ("3", "-1", "x", "0,,1"):
        with pytest.raises(ValueError, match=f"blocks={text}"):
            figures.chosen_blocks(text, 3)


def test_heat_maps_and_curves(activations):
    figure = drawn(figures.activation_figure, activations, "run", "0,2")
    maps = with_images(figure)[:3]
    for axes, step in zip(maps, (0, 20, 55), strict=True):
        assert axes.get_title("left") == f"step {step}"
        for place, block in enumerate((0, 2)):
            image, text = (values[block].astype(np.float64) for values in activations[55])
            order = sorted(range(UNITS), key=lambda unit: -(image / text)[unit])
            # Images and text have one scale, whose end is written beside them.
            top = np.percentile([values[block] for values in activations[step]], 99)
            assert f"{top:.3g}" in [text.get_text() for text in axes.texts]
            rows = cells_of(axes)[15 * place + np.array([0, 6])]
            expected = np.stack([values[block][order] for values in activations[step]]) / top
            np.testing.assert_allclose(rows, expected)

    top = UNITS // 10
    for name, measure in (
        ("overlap", lambda i, t: len(set(np.argsort(-i)[:top]) & set(np.argsort(-t)[:top])) / top),
        (
            "correlation",
            lambda i, t: np.corrcoef(np.argsort(np.argsort(i)), np.argsort(np.argsort(t)))[0, 1],
        ),
    ):
        lines = by_label(figure, name)[name].get_lines()[1:]
        assert [line.get_label() for line in lines] == ["block 0", "block 1", "block 2"]
        for block, line in enumerate(lines):
            assert line.get_xdata().tolist() == list(activations)
            expected = [measure(i[block], t[block]) for i, t in activations.values()]
            np.testing.assert_allclose(line.get_ydata(), expected, atol=1e-12)
        assert lines[2].get_ydata()[-1] == 1  # the same units in the end


# --- figures 4 and 5 -----------------------------------------------------------------------------


def legend_of(figure):
    [legend] = figure.legends
    return [text.get_text() for text in legend.get_texts()], legend.get_title().get_text()


def test_bars_of_blocks_and_kinds(updates, importance):
    figure = drawn(figures.sparsity_figure, updates, "run")
    blocks, kinds = (by_label(figure, name)[name] for name in ("blocks", "kinds"))
    layers = {"query": "/query/", "mlp_out": "/feedforward_output_dense/", "norms": "norm/gamma"}
    for limit, of_blocks, of_kinds in zip(
        LIMITS.values(), blocks.containers, kinds.containers, strict=True
    ):

        def sparsity(part, limit=limit):
            found = [values.ravel() for path, values in importance.items() if part in path]
            return np.mean(np.concatenate(found) <= limit)

        names = [*(f"block_{block}/" for block in range(4)), "final_norm"]
        expected = [sparsity(name) for name in names]
        np.testing.assert_allclose([bar.get_height() for bar in of_blocks], expected)
        for kind, part in layers.items():
            bar = of_kinds[KINDS.index(kind)]
            assert bar.get_height() == pytest.approx(sparsity(part))
            assert abs(bar.get_x() + bar.get_width() / 2 - KINDS.index(kind)) < 0.5
    names, note = legend_of(figure)
    assert names[:-1] == ["step 3", "step 5", "step 7"] and note == "run: run"
    assert blocks.get_lines()[0].get_ydata()[0] == pytest.approx(sparsity(""))


# --- figure 6 ------------------------------------------------------------------------------------


def examples(runs, name="cat", count=5):
    """Hand-made examples: probabilities differ from run to run."""
    random = np.random.default_rng(4)

    def answers(place):
        names = [name, "dog", "$x$", "a long name of a class, one of many", "犬"]
        values = [0.5 - 0.04 * place, 0.25, 0.1, 0.05, 0.001]
        return [
            Answer(*pair, place == 0) for place, pair in enumerate(zip(names, values, strict=True))
        ]

    images = [
        Example(
            number,
            [name],
            {run: [answers(place + number)] for place, run in enumerate(runs)},
            image=random.integers(0, 255, (6, 6, 3), np.uint8),
        )
        for number in range(count)
    ]
    texts = [
        Example(
            number,
            [name, "other"],
            {run: [answers(place), answers(place + 1)] for place, run in enumerate(runs)},
            words=[("so", 0), ("[MASK]", 1), *[("longer", 0)] * 60, ("word", 2)],
            asked="word",
        )
        for number in range(2)
    ]
    return images, texts


@pytest.mark.parametrize("runs", [["one"], ["a", "b", "a-long-name-of-a-run" * 4]])
def test_a_page_holds_images_bars_and_words(runs):
    images, texts = examples(runs)
    figure = drawn(figures.qualitative_figure, images, texts, runs)
    panels = by_label(figure, "image ")
    for example, shown in zip(images, with_images(figure), strict=True):
        np.testing.assert_array_equal(cells_of(shown), example.image)
        for run in runs:
            axes = panels[f"image {example.number}, {run}"]
            values = [bar.get_width() for bar in axes.patches]
            assert values == [answer.probability for answer in example.answers[run][0]]
            colours = [bar.get_facecolor() for bar in axes.patches]
            assert colours.count(colours[0]) == 1 and len(set(colours)) == 2
            written = [text.get_text() for text in axes.texts]
            assert written[0] == f"cat {values[0]:.0%} ✓" and written[1] == "dog 25%"
            assert written[4].endswith("<1%")
    shown = texts_of(figure)
    assert sum(line.startswith("cat 50% ✓") for line in shown) == 2 + 1  # gaps, and an image
    assert sum("[1\u00a0MASK]" in line for line in shown) == 2

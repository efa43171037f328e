"""Figures of values that are set by hand, against NumPy."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from keras_vitbert.extras.paper_figures import figures
from keras_vitbert.extras.paper_figures.examples import Answer, Example
from keras_vitbert.extras.paper_figures.tradeoffs import points_of, tradeoff_figure
from keras_vitbert.inspection.values import MaskValues
from keras_vitbert.model.shared_weights import KINDS
from tests.keras_vitbert.extras.paper_figures.test_tradeoffs import run as run_of
from tests.keras_vitbert.inspection.axes import by_label, cells_of, drawn, texts_of

UNITS = 20


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


# --- figure 3 ------------------------------------------------------------------------------------


def test_blocks_that_are_shown():
    assert figures.chosen_blocks("", 12) == [0, 6, 11]
    assert figures.chosen_blocks("all", 3) == [0, 1, 2]
    assert figures.chosen_blocks("2, 0,2", 3) == [0, 2]
    for text in ("3", "x"):
        with pytest.raises(ValueError, match=f"blocks={text}"):
            figures.chosen_blocks(text, 3)


def test_heat_maps_and_curves():
    """Six steps and three blocks; in the last block, text comes to have the images' units."""
    random, activations = np.random.default_rng(0), {}
    for number, step in enumerate((0, 10, 20, 30, 40, 55)):
        image, text = random.gamma(1, 1, (2, 3, UNITS)).astype(np.float32)
        text[2] += (image[2] - text[2]) * number / 5
        activations[step] = image, text
    figure = drawn(figures.activation_figure, activations, "run", "0,2")
    maps = with_images(figure)[:3]
    for axes, step in zip(maps, (0, 20, 55), strict=True):
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
        for block, line in enumerate(lines):
            assert line.get_xdata().tolist() == list(activations)
            expected = [measure(i[block], t[block]) for i, t in activations.values()]
            np.testing.assert_allclose(line.get_ydata(), expected, atol=1e-12)
        assert len(lines) == 3 and lines[2].get_ydata()[-1] == 1  # the same units in the end


# --- figure 4 ------------------------------------------------------------------------------------


def test_bars_of_blocks_and_kinds():
    """What is less than a limit is cleared."""
    random, importance = np.random.default_rng(2), {"final_norm/gamma": np.arange(8) / 8}
    parts = {"query": "/query/", "mlp_out": "/feedforward_output_dense/", "norms": "norm/gamma"}
    for block in range(4):
        paths = [f"block_{block}{part}kernel" for part in list(parts.values())[:2]]
        for path in [*paths, f"block_{block}/feedforward_layer_norm/gamma"]:
            importance[path] = random.random((8, 12)) * (1.4 - 0.2 * block)
    limits = 0.1, 0.3, 0.55
    updates = [
        MaskValues.from_masks(step, {path: values > limit for path, values in importance.items()})
        for step, limit in enumerate(limits)
    ]
    figure = drawn(figures.sparsity_figure, updates, "run")
    blocks, kinds = (by_label(figure, name)[name] for name in ("blocks", "kinds"))

    def sparsity(part, limit):
        found = [values.ravel() for path, values in importance.items() if part in path]
        return np.mean(np.concatenate(found) <= limit)

    for limit, of_blocks, of_kinds in zip(limits, blocks.containers, kinds.containers, strict=True):
        heights = dict(zip(updates[0].blocks, [bar.get_height() for bar in of_blocks], strict=True))
        assert heights == pytest.approx({name: sparsity(name, limit) for name in heights})
        for kind, part in parts.items():
            bar = of_kinds[KINDS.index(kind)]
            assert bar.get_height() == pytest.approx(sparsity(part, limit))
            assert abs(bar.get_x() + bar.get_width() / 2 - KINDS.index(kind)) < 0.5
    assert blocks.get_lines()[0].get_ydata()[0] == pytest.approx(sparsity("", limits[-1]))


# --- figure 6 ------------------------------------------------------------------------------------


def answers_of(first, is_true=True):
    names = ["cat", "dog", "$x$", "a long name of a class, one of many", "犬"]
    pairs = zip(names, [first, 0.25, 0.1, 0.05, 0.001], strict=True)
    return [Answer(*pair, is_true and pair[0] == "cat") for pair in pairs]


def test_a_page_holds_images_bars_and_words():
    runs = ["a", "b", "a-long-name-of-a-run" * 4]
    random = np.random.default_rng(4)
    of_runs = {run: answers_of(0.5 - 0.04 * place) for place, run in enumerate(runs)}
    images = [
        Example(
            number,
            ["cat"],
            {run: [answers] for run, answers in of_runs.items()},
            image=random.integers(0, 255, (6, 6, 3), np.uint8),
        )
        for number in range(5)
    ]
    words = [("so", 0), ("[MASK]", 1), *[("longer", 0)] * 60, ("word", 2)]
    gaps = {run: [answers, answers] for run, answers in of_runs.items()}
    text = Example(7, ["cat", "other"], gaps, words=words, asked="word")
    figure = drawn(figures.qualitative_figure, images, [text], runs)
    panels = by_label(figure, "image ")
    for example, shown in zip(images, with_images(figure), strict=True):
        np.testing.assert_array_equal(cells_of(shown), example.image)
        for run in runs:
            axes = panels[f"image {example.number}, {run}"]
            values = [bar.get_width() for bar in axes.patches]
            assert values == [answer.probability for answer in of_runs[run]]
            colours = [bar.get_facecolor() for bar in axes.patches]
            assert colours.count(colours[0]) == 1 and len(set(colours)) == 2
            written = [text.get_text() for text in axes.texts]
            assert written[0] == f"cat {values[0]:.0%} ✓" and written[1] == "dog 25%"
    shown = texts_of(figure)
    assert sum(line.startswith("cat 50% ✓") for line in shown) == 5 + 2  # images, and gaps
    assert any("[1\u00a0MASK]" in line for line in shown)

"""The values behind Figures 3 to 6, set by hand, against NumPy; and that they are what is drawn."""

import math

import numpy as np
import pytest

from keras_vitbert.inspection.mask_values import MaskValues
from keras_vitbert.model.shared_weights import KINDS
from keras_vitbert.paper_figures import (
    activation_figure,
    mask_figure,
    qualitative_figure,
    sparsity_figure,
)
from keras_vitbert.paper_figures.qualitative_values import (
    Answers,
    ImageExample,
    TextExample,
    evenly,
    shown_part,
)
from keras_vitbert.paper_figures.sparsity_figure import Sparsities
from keras_vitbert.paper_figures.style import raster, shortened, spread, style, width_of, wrapped
from pipelines.command_line import UserError

UNITS, HIDDEN, WIDE = 20, 8, 12
SHAPES = {
    "self_attention_layer/query": (HIDDEN, 2, HIDDEN // 2),
    "self_attention_layer/key": (HIDDEN, 2, HIDDEN // 2),
    "self_attention_layer/value": (HIDDEN, 2, HIDDEN // 2),
    "self_attention_layer/attention_output": (2, HIDDEN // 2, HIDDEN),
    "feedforward_intermediate_dense": (HIDDEN, WIDE),
    "feedforward_output_dense": (WIDE, HIDDEN),
}


def by_label(figure, start):
    """The axes whose label begins with a text, by their labels."""
    return {
        axes.get_label(): axes for axes in figure.axes if str(axes.get_label()).startswith(start)
    }


def assert_within_the_page(figure):
    """Nothing that is drawn leaves the page."""
    box = figure.get_tightbbox(figure.canvas.get_renderer())  # inches
    width, height = figure.get_size_inches()
    assert 0 <= box.x0 and box.x1 <= width and 0 <= box.y0 and box.y1 <= height, box


@pytest.fixture
def drawn():
    """`drawn(draw, *arguments)`: the figure, after a look at its edges."""

    def drawn(draw, *arguments):
        with style():
            figure = draw(*arguments)
            figure.canvas.draw()
            assert_within_the_page(figure)
        return figure

    return drawn


# --- Figure 3 ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def activations():
    """Six steps and three blocks; in the last block, text comes to have the images' units."""
    random = np.random.default_rng(0)
    found = {}
    for number, step in enumerate((0, 10, 20, 30, 40, 55)):
        image, text = random.gamma(1, 1, (2, 3, UNITS)).astype(np.float32)
        text[2] += (image[2] - text[2]) * number / 5
        found[step] = image, text
    return found


def test_steps_that_are_shown():
    assert activation_figure.chosen_steps([0, 10, 20, 30, 40, 55]) == [0, 30, 55]
    assert activation_figure.chosen_steps([0, 500]) == [0, 500]
    assert activation_figure.chosen_steps([7]) == [7]


def test_blocks_that_are_shown():
    assert activation_figure.chosen_blocks("", 12) == [0, 6, 11]
    assert activation_figure.chosen_blocks("", 1) == [0]
    assert activation_figure.chosen_blocks("all", 3) == [0, 1, 2]
    assert activation_figure.chosen_blocks("2, 0,2", 3) == [0, 2]
    for text in ("3", "-1", "x", "0,,1"):
        with pytest.raises(UserError, match=f"--blocks={text}: must be numbers from 0 to 2"):
            activation_figure.chosen_blocks(text, 3)


def test_heat_maps_and_curves(activations, drawn):
    figure = drawn(activation_figure.draw, activations, "run", "0,2")
    panels = by_label(figure, "step ")
    assert list(panels) == [f"step {s}, block {b}" for s in (0, 30, 55) for b in (0, 2)]
    for block in (0, 2):
        image, text = (values[block].astype(np.float64) for values in activations[55])
        order = sorted(range(UNITS), key=lambda unit: -(image / text)[unit])
        for step in (0, 30, 55):
            rows = panels[f"step {step}, block {block}"].get_images()
            for row, values in zip(rows, activations[step], strict=True):
                np.testing.assert_array_equal(np.asarray(row.get_array())[0], values[block][order])
            assert [row.get_extent()[2:] for row in rows] == [[0.5, -0.5], [1.5, 0.5]]
            # Images and text have one scale, whose end is written beside them.
            ((low, high),) = {row.get_clim() for row in rows}
            top = np.percentile([values[block] for values in activations[step]], 99)
            assert low == 0 and high == pytest.approx(top)
            assert f"{top:.3g}" in [text.get_text() for text in figure.texts]

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


def test_one_step_is_drawn_over_the_blocks(activations, drawn):
    figure = drawn(activation_figure.draw, {40: activations[40]}, "run")
    line = by_label(figure, "overlap")["overlap"].get_lines()[1]
    assert line.get_xdata().tolist() == [0, 1, 2]
    expected = activation_figure.curves(activations)["overlap"][4]
    np.testing.assert_array_equal(line.get_ydata(), expected)


def test_many_blocks_have_a_scale_for_a_legend(drawn):
    random = np.random.default_rng(1)
    values = {step: random.random((2, 24, UNITS)) for step in (0, 1_000_000)}
    figure = drawn(activation_figure.draw, values, "a-very-long-name" * 9)
    colours = [line.get_color() for line in by_label(figure, "overlap")["overlap"].get_lines()]
    assert len(set(colours)) == 25


# --- Figures 4 and 5 ---------------------------------------------------------------------------


def masks_of(importance, limit):
    return {path: values > limit for path, values in importance.items()}


@pytest.fixture(scope="module")
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


LIMITS = {3: 0.1, 5: 0.3, 7: 0.55}


@pytest.fixture(scope="module")
def updates(importance):
    return [MaskValues.of(step, masks_of(importance, limit)) for step, limit in LIMITS.items()]


def test_bars_of_blocks_and_kinds(updates, importance, drawn):
    figure = drawn(sparsity_figure.draw, Sparsities.of(updates), "run")
    panels = {**by_label(figure, "blocks"), **by_label(figure, "kinds")}
    layers = {"query": "/query/", "mlp_out": "/feedforward_output_dense/", "norms": "norm/gamma"}
    for limit, blocks, kinds in zip(
        LIMITS.values(), panels["blocks"].containers, panels["kinds"].containers, strict=True
    ):

        def sparsity(part, limit=limit):
            found = [values.ravel() for path, values in importance.items() if part in path]
            return np.mean(np.concatenate(found) <= limit)

        names = [*(f"block_{block}/" for block in range(4)), "final_norm"]
        expected = [sparsity(name) for name in names]
        np.testing.assert_allclose([bar.get_height() for bar in blocks], expected)
        for kind, part in layers.items():
            bar = kinds[KINDS.index(kind)]
            assert bar.get_height() == pytest.approx(sparsity(part))
            assert abs(bar.get_x() + bar.get_width() / 2 - KINDS.index(kind)) < 0.5
    assert [bars.get_label() for bars in panels["blocks"].containers] == [
        "step 3",
        "step 5",
        "step 7",
    ]
    line = panels["blocks"].get_lines()[0]
    assert line.get_ydata()[0] == pytest.approx(sparsity(""))


def test_bars_do_not_lie_on_each_other(updates, drawn):
    figure = drawn(sparsity_figure.draw, Sparsities.of(updates), "run")
    edges = [
        (bar.get_x(), bar.get_x() + bar.get_width())
        for bars in by_label(figure, "blocks")["blocks"].containers
        for bar in bars
    ]
    edges.sort()
    for (_, end), (begin, _) in zip(edges, edges[1:], strict=False):
        assert end <= begin + 1e-9


def test_earlier_updates_come_from_the_log(updates, drawn):
    logged = {
        4: updates[0].of_blocks,
        6: updates[1].of_blocks,
        8: updates[2].of_blocks,
    }
    last = MaskValues(20, updates[2].blocks, updates[2].entries, updates[2].cleared, {})
    found = Sparsities.of([last], logged)
    assert found.steps == [4, 6, 8]  # the step in which the last masks were first logged
    expected = [list(update.of_blocks.values()) for update in updates]
    np.testing.assert_allclose(found.of_blocks, expected)
    assert np.isnan(found.of_kinds[:2]).all() and np.isnan(found.overall[:2]).all()
    assert found.overall[2] == updates[2].overall

    figure = drawn(sparsity_figure.draw, found, "run")
    assert any("at the ends of epochs" in text.get_text() for text in figure.texts)
    kinds = by_label(figure, "kinds")
    (bars,) = next(iter(kinds.values())).containers  # what is not known is not drawn as 0
    assert [bar.get_height() for bar in bars] == list(updates[2].of_kinds.values())
    for place, bar in enumerate(bars):
        assert bar.get_x() + bar.get_width() / 2 == pytest.approx(place)


def test_of_many_updates_some_are_shown(updates, drawn):
    many = [
        MaskValues(step, updates[0].blocks, updates[0].entries, updates[0].cleared * 0 + step, {})
        for step in range(1, 31)
    ]
    figure = drawn(sparsity_figure.draw, Sparsities.of(many), "run")
    names = [bars.get_label() for bars in by_label(figure, "blocks")["blocks"].containers]
    assert len(names) == 8 and names[0] == "step 1" and names[-1] == "step 30"
    assert any("8 of 30 updates" in text.get_text() for text in figure.texts)
    assert spread([1, 2, 3], 8) == [1, 2, 3]


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


# --- Figure 6 ----------------------------------------------------------------------------------


def test_answers():
    logits = np.array([0.0, 3.0, -1.0, 2.0, 1.0, 0.5, 9.0])
    found = Answers.of(logits, ["a", "b", "c", "d", "e", "f"], 3)  # the seventh has no name
    assert found.names == ["b", "d", "e", "f", "a"]
    total = sum(math.exp(value) for value in logits)
    expected = [math.exp(value) / total for value in (3, 2, 1, 0.5, 0)]
    assert found.probabilities == pytest.approx(expected)
    assert found.correct == [False, True, False, False, False]
    assert Answers.of([1.0, 1.0], ["a", "b"], 0).names == ["a", "b"]


def test_examples_are_spread():
    assert evenly(1000, 4) == [0, 250, 500, 750]
    assert evenly(7, 3) == [0, 2, 4]
    assert evenly(2, 6) == [0, 1]


VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "the", "##s"]


def text(ids, positions, weights=None, length=12):
    padding = np.arange(length) < len(ids)
    return {
        "token_ids": np.array([*ids, *[0] * (length - len(ids))]),
        "padding_mask": padding.astype(np.int32),
        "masked_positions": np.array(positions),
        "masked_weights": np.array(weights or [1.0] * len(positions), np.float32),
    }


def test_words_and_gaps():
    words, gaps = shown_part(text([2, 7, 5, 6, 4, 8, 3, 7, 6, 3], [8, 4, 0], [1, 1, 0]), VOCABULARY)
    assert words == [
        ("the", 0),
        ("playing", 0),
        ("[MASK]", 1),
        ("##s", 0),  # what it belongs to is not known
        ("[SEP]", 0),
        ("the", 0),
        ("##ing", 2),  # exchanged, or left as it was
        ("[SEP]", 0),
    ]
    assert gaps == [1, 0]


def test_a_long_text_is_cut():
    words, gaps = shown_part(text([2, 4, 4, 4, 4, 7, 4, 3], [1, 2, 3, 4, 6]), VOCABULARY)
    assert [gap for _, gap in words] == [1, 2, 3, 4, 0, 0] and gaps == [0, 1, 2, 3]
    assert words[-1] == ("…", 0)
    words, gaps = shown_part(text([2, *[7] * 50, 3], [45], length=60), VOCABULARY)
    assert words == [("the", 0)] * 33 + [("…", 0)] and gaps == []


def examples(runs, name="cat", count=5):
    """Hand-made examples: probabilities differ from run to run."""
    random = np.random.default_rng(4)

    def answers(place):
        names = [name, "dog", "$x$", "W" * 40, "犬"]
        values = [0.5 - 0.04 * place, 0.25, 0.1, 0.05, 0.001]
        return Answers(names, values, [True, False, False, False, False])

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
    figure = drawn(qualitative_figure.draw, images, texts, runs)
    panels = by_label(figure, "image ")
    for example in images:
        (shown,) = panels[f"image {example.number}"].get_images()
        np.testing.assert_array_equal(np.asarray(shown.get_array()), example.image)
        for run in runs:
            bars = panels[f"image {example.number}, {run}"].patches
            values = [bar.get_width() for bar in bars]
            assert values == example.answers[run].probabilities
            colours = [bar.get_facecolor() for bar in bars]
            assert colours.count(colours[0]) == 1 and len(set(colours)) == 2
            written = [t.get_text() for t in panels[f"image {example.number}, {run}"].texts]
            assert written[0] == f"cat {values[0]:.0%} ✓" and written[1] == "dog 25%"
            assert written[4].endswith("<1%")
    shown = [text.get_text() for text in figure.texts]
    assert sum(line.startswith("cat 50% ✓") for line in shown) == 2  # the first run's first gap
    assert sum("[1\u00a0MASK]" in line for line in shown) == 2


def test_a_page_of_one_modality(drawn):
    images, texts = examples(["run"], name="a very long name of a class " * 5)
    assert not by_label(drawn(qualitative_figure.draw, [], texts, ["run"]), "image ")
    whole = drawn(qualitative_figure.draw, images, texts, ["run"])
    only = drawn(qualitative_figure.draw, images, [], ["run"])
    assert only.get_figheight() < whole.get_figheight()


def test_letters_fit():
    with style():
        assert shortened("word", 1.0) == "word"
        short = shortened("abcdefghijklmnopqrstuvwxyz" * 4, 1.0)
        assert width_of(short) <= 1.0 < width_of(short.replace("…", "mmm"))
        assert short.startswith("abc") and short.endswith("xyz") and "…" in short
        lines = wrapped(["word"] * 30, 1.0)
        assert " ".join(lines).split() == ["word"] * 30
        assert all(width_of(line) <= 1.0 < width_of(f"{line} word") for line in lines[:-1])


def test_picture_for_tensorboard(activations):
    with style():
        figure = activation_figure.draw(activations, "run")
        picture = raster(figure, 100)
    height, width = (round(100 * inches) for inches in figure.get_size_inches()[::-1])
    assert (
        picture.dtype == np.uint8 and abs(np.array(picture.shape) - (height, width, 3)).max() <= 1
    )
    assert (picture[0, 0] == 255).all() and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50

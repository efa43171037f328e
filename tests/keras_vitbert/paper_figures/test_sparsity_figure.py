"""The values behind Figure 4, set by hand, against NumPy; and that they are what is drawn."""

import numpy as np
import pytest

from keras_vitbert.inspection.mask_values import MaskValues
from keras_vitbert.model.shared_weights import KINDS
from keras_vitbert.paper_figures import sparsity_figure
from keras_vitbert.paper_figures.sparsity_figure import Sparsities
from tests.keras_vitbert.paper_figures.artists import LIMITS, by_label, texts_of


def legend_of(sheet):
    [legend] = sheet.figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_bars_of_blocks_and_kinds(updates, importance, drawn):
    sheet = drawn(sparsity_figure.draw, Sparsities.of(updates), "run")
    panels = {**by_label(sheet, "blocks"), **by_label(sheet, "kinds")}
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
    assert legend_of(sheet)[:-1] == ["step 3", "step 5", "step 7"]
    line = panels["blocks"].get_lines()[0]
    assert line.get_ydata()[0] == pytest.approx(sparsity(""))


def test_bars_do_not_lie_on_each_other(updates, drawn):
    sheet = drawn(sparsity_figure.draw, Sparsities.of(updates), "run")
    edges = [
        (bar.get_x(), bar.get_x() + bar.get_width())
        for bars in by_label(sheet, "blocks")["blocks"].containers
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

    sheet = drawn(sparsity_figure.draw, found, "run")
    assert any("at the ends of epochs" in text for text in texts_of(sheet))
    kinds = by_label(sheet, "kinds")
    (bars,) = next(iter(kinds.values())).containers  # what is not known is not drawn as 0
    assert [bar.get_height() for bar in bars] == list(updates[2].of_kinds.values())
    for place, bar in enumerate(bars):
        assert bar.get_x() + bar.get_width() / 2 == pytest.approx(place)


def test_of_many_updates_some_are_shown(updates, drawn):
    many = [
        MaskValues(step, updates[0].blocks, updates[0].entries, updates[0].cleared * 0 + step, {})
        for step in range(1, 31)
    ]
    sheet = drawn(sparsity_figure.draw, Sparsities.of(many), "run")
    names = legend_of(sheet)[:-1]
    assert len(names) == 8 and names[0] == "step 1" and names[-1] == "step 30"
    bars = by_label(sheet, "blocks")["blocks"].containers
    for update, step in zip(bars, (1, 5, 9, 13, 18, 22, 26, 30), strict=True):
        assert update[0].get_height() == pytest.approx(7 * step / updates[0].entries[0].sum())
    assert any("8 of 30 updates" in text for text in texts_of(sheet))

"""Tables and answers of results that were made up, by numbers that were computed apart."""

import itertools
import re
from statistics import mean, stdev

import numpy as np
import pytest
from scipy import stats

from keras_vitbert import reproduce
from keras_vitbert.extras.reproduction import page
from keras_vitbert.extras.reproduction.plan import get_scale, run_name
from keras_vitbert.extras.reproduction.running import DIVERGED, DONE
from keras_vitbert.extras.reproduction.statistics import (
    PROBE,
    Filled,
    deviations,
    fill,
    fill_depth,
)
from keras_vitbert.extras.reproduction.tables import (
    AVERAGE,
    FULL,
    IC,
    IMAGES,
    JOINT,
    MEAN,
    MLM,
    NATS,
    NSP,
    RAND,
    TEXT,
    tables,
)
from tests.documents.markdown import ROOT
from tests.keras_vitbert.inspection.axes import drawn

SMALL = get_scale("small", "data", {})


def test_the_committed_page_is_that_of_its_results(tmp_path, monkeypatch):
    """Nothing is run for it: all that the page has is in the file."""
    folder = ROOT / "docs" / "reproduction"
    monkeypatch.setattr(page, "encoded", lambda figure, kind: kind)
    results = tmp_path / "small.json"
    results.write_bytes((folder / "small.json").read_bytes())
    asked = ["--table=1,2,3", "--figure=2,3,4,5", "--ablation=merging"]
    reproduce.main([*asked, "--scale=small", f"--results={results}", f"--output_dir={tmp_path}"])
    assert results.read_bytes() == (folder / "small.json").read_bytes()
    assert (tmp_path / "small.md").read_bytes() == (folder / "small.md").read_bytes()
    assert (tmp_path / "small-depth.svg").read_text() == "svg"
    assert not (tmp_path / "pretrain").exists()


@pytest.fixture
def table_3():
    """Table 3 with three seeds; the last row has one, the one before has diverged."""
    table, random, units = tables({})["table3"], np.random.default_rng(0), {}
    for place, row in enumerate(table.rows):
        for seed in range(3):
            if place == 8 and seed:
                continue
            entry = {"outcome": DIVERGED}
            if place != 7:
                validation = {name: random.random() for name in (NSP, MLM, NATS, IC)}
                entry = {"outcome": DONE, "validation": validation}
            units[run_name("pretrain", row.recipe, seed)] = entry
    return table, units, fill(table, units, [], range(3))


def test_cells_are_means_over_seeds(table_3):
    table, units, filled = table_3
    for place, row in enumerate(table.rows[:7]):
        runs = [units[run_name("pretrain", row.recipe, s)]["validation"] for s in range(3)]
        for column in (NSP, MLM, IC):
            found = filled.estimate(place, column)
            assert found.mean == pytest.approx(mean(run[column] for run in runs))
            assert found.error == pytest.approx(stdev([run[column] for run in runs]) / 3**0.5)
        both = [(run[MLM] + run[IC]) / 2 for run in runs]
        assert filled.estimate(place, MEAN).mean == pytest.approx(mean(both))
        assert filled.estimate(place, MEAN).error == pytest.approx(stdev(both) / 3**0.5)
    assert filled.estimate(7, NSP) is None
    assert filled.estimate(8, NSP).seeds == 1


def test_the_page(table_3):
    table, _, filled = table_3
    text = page.section(filled, deviations([filled]))
    first = filled.estimate(0, NSP)
    assert "ours minus the paper's:" in text and "of other tasks" not in text
    assert f"| 0.1 | {first.mean:.4f} ± {first.error:.4f} |" in text
    # Of the paper 98.7, and how far ours is from that.
    assert f"| 0.1 | 98.7 ({100 * first.mean - 98.7:+.1f}) |" in text
    ours = [filled.estimate(place, IC).mean for place in range(9) if place != 7]
    theirs = [row.paper[IC] for place, row in enumerate(table.rows) if place != 7]
    found = correlation_of_ranks(ours, theirs)
    assert re.search(rf"order of the rows: .*IC {re.escape(f'{found:+.2f}')}", text)
    [line] = [line for line in text.splitlines() if line.startswith(f"  - {MEAN}: ")]
    assert re.search(r"0\.2|0\.5", line) and "over 3 seeds" in line
    # Seven rows of three seeds, and one of one: (7 - 1) * (3 - 1).
    assert f"all trained rows: {MEAN} 12." in text
    ratios = [float(row.label[0]) for place, row in enumerate(table.rows) if place != 7]
    found = correlation_of_ranks(ratios, ours)
    assert re.search(rf"with `image_loss_ratio`, .*IC {re.escape(f'{found:+.2f}')} \(p = ", text)


def correlation_of_ranks(*sides):
    return np.corrcoef([stats.rankdata(side) for side in sides])[0, 1]


def test_averages_are_of_tasks_and_then_of_modalities():
    table, random, units, values = tables({})["table1"], np.random.default_rng(1), {}, {}
    rows = {row.name: row.recipe for row in table.rows}
    assert rows["Joint"] == JOINT and rows["ViT-BERT"] == FULL
    for row in table.rows:
        for task in SMALL.tasks:
            value = values[row.name, task.name] = random.random()
            name = run_name("finetune", row.recipe, 0, task.name)
            units[name] = {"outcome": DONE, "value": value}
        if row.recipe.variant != RAND:
            measured = {IC: 0.25} if row.recipe.variant == "vit" else {}
            name = run_name("pretrain", row.recipe, 0)
            units[name] = {"outcome": DONE, "validation": {NSP: 0.75} | measured}
    filled = fill(table, units, SMALL.tasks, range(1))
    for place, row in enumerate(table.rows):
        text = mean(values[row.name, name] for name in ("next", "source"))
        images = values[row.name, "cifar10"]
        assert filled.estimate(place, TEXT).mean == pytest.approx(text)
        assert filled.estimate(place, AVERAGE).mean == pytest.approx((text + images) / 2)
        assert filled.estimate(place, PROBE + TEXT) is None
    text = page.section(filled, deviations([filled]))
    assert "In pre-training:" in text and "| ViT | 0.7500 |  |  | 0.2500 |  | 1 |" in text
    assert "of other tasks, so that only the order of rows counts:" in text
    assert "which says nothing about other seeds" in text and "Does distillation help?" in text


def test_the_error_of_an_average_is_that_of_the_same_tasks():
    """Text is the mean of two tasks in Table 1, and one of them in the merging ablation."""
    random, filled, units, cells = np.random.default_rng(2), [], {}, {}
    for name in ("table1", "merging"):
        table = tables({})[name]
        for row in table.rows:
            for seed, task in itertools.product(range(3), SMALL.tasks):
                # Much noise in the one task, little in the other.
                value = random.normal(scale=0.1 if task.name == "next" else 0.001)
                name = run_name("finetune", row.recipe, seed, task.name)
                entry = units.setdefault(name, {"outcome": DONE, "value": value})
                if row.recipe.variant != RAND:
                    cells[row.recipe, task.name, seed] = entry["value"]
        filled.append(fill(table, units, SMALL.tasks_of(table), range(3)))
    found = deviations(filled)

    def error_of(some, *names):
        recipes = {row.recipe for one in some for row in one.table.rows}
        rows = [
            [mean(cells[recipe, name, seed] for name in names) for seed in range(3)]
            for recipe in recipes
            if recipe.variant != RAND
        ]
        left = np.array(rows) - np.mean(rows, 1, keepdims=True)
        left -= left.mean(0)
        freedom = (len(rows) - 1) * 2
        return np.sqrt((left**2).sum() / freedom), freedom

    one, both = found["next",], found["next", "source"]
    assert (one.value, one.freedom) == pytest.approx(error_of(filled, "next"))
    assert (both.value, both.freedom) == pytest.approx(error_of(filled[:1], "next", "source"))
    assert one.value > 1.5 * both.value
    assert f"text {both.freedom}, images {one.freedom}" in page.section(filled[0], found)
    assert f"text {one.freedom}, images {one.freedom}" in page.section(filled[1], found)


def test_sharing_by_depth():
    random, entries = np.random.default_rng(3), []
    for _ in range(3):
        overlap, correlation, cleared = random.random((3, 4)) + [[0, 0, 2, 2]]
        entries.append(
            {
                "co_activation": {"overlap": list(overlap), "correlation": list(correlation)},
                "mask": {"sparsity_per_block": {f"block_{n}": v for n, v in enumerate(cleared)}},
            }
        )
    entries.append({"co_activation": {}, "mask": {}})  # was not looked at
    units = {run_name("pretrain", FULL, seed): entry for seed, entry in enumerate(entries)}
    filled = fill_depth(units, range(4))
    assert len(filled.table.rows) == 4 and filled.columns == filled.asked
    for place in range(4):
        found = [entry["co_activation"]["overlap"][place] for entry in entries[:3]]
        assert filled.estimate(place, "overlap").mean == pytest.approx(mean(found))
        found = [entry["mask"]["sparsity_per_block"][f"block_{place}"] for entry in entries[:3]]
        assert filled.estimate(place, "cleared").mean == pytest.approx(mean(found))
    text = page.section(filled, deviations([filled]))
    assert "cleared 6." in text  # degrees of freedom: (4 - 1) * (3 - 1)
    assert "overlap: (2, 3) above (0, 1) by " in text
    assert fill_depth(units, range(3, 5)) is None


# --- pictures ------------------------------------------------------------------------------------


def made_up(name, columns, seeds, without=()):
    random = np.random.default_rng(0)
    values = [
        {
            column: {} if (place, column) in without else {s: random.random() for s in range(seeds)}
            for column in columns
        }
        for place in range(len(tables({})[name].rows))
    ]
    return Filled(tables({})[name], columns, values, ())


def points_of(axes):
    """The coordinates of the means."""
    lines = [line for line in axes.lines if line.get_marker() == "o"]
    return sorted(tuple(map(float, pair)) for line in lines for pair in line.get_xydata())


@pytest.mark.parametrize(
    ("name", "columns", "seeds"), [("table1", (TEXT, IMAGES), 1), ("table3", (NSP, MLM, IC), 3)]
)
def test_a_line_for_each_row(name, columns, seeds):
    filled = made_up(name, columns, seeds)
    names = [row.name for row in filled.table.rows]
    panels = drawn(page.table_figure, filled).axes
    assert [label.get_text() for label in panels[0].get_yticklabels()] == names
    for column, axes in zip(columns, panels, strict=True):
        means = [filled.estimate(place, column).mean for place in range(len(names))]
        np.testing.assert_allclose(points_of(axes), sorted(zip(means, range(99), strict=False)))
        assert axes.get_label() == column and axes.yaxis_inverted()  # the first row is uppermost


def test_a_curve_over_mask_ratios():
    without = {(0, IMAGES), (1, TEXT), (9, TEXT), (9, IMAGES)}  # 0 is by magnitude, 1 and 9 random
    filled = made_up("figure2", (TEXT, IMAGES), 2, without)
    for axes in drawn(page.table_figure, filled).axes:
        column = axes.get_label()
        expected = [
            (float(row.label[0]), filled.estimate(place, column).mean)
            for place, row in enumerate(filled.table.rows)
            if (place, column) not in without
        ]
        np.testing.assert_allclose(points_of(axes), sorted(expected))
        curves = {bars.get_label(): len(bars[0].get_xdata()) for bars in axes.containers}
        assert curves == {"magnitude": 5 - (column == IMAGES), "random": 4 - (column == TEXT)}

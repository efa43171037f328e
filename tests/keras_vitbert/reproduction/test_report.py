"""Tables and answers of results that were made up, by numbers that were computed apart."""

import itertools
import re
from statistics import mean, stdev

import numpy as np
import pytest
from scipy import stats

from keras_vitbert.reproduction import cells, report
from keras_vitbert.reproduction.experiments import FULL, IC, JOINT, MLM, NATS, NSP, experiments
from keras_vitbert.reproduction.plan import Planner
from keras_vitbert.reproduction.results import DIVERGED, DONE
from keras_vitbert.reproduction.scales import SCALES


class Made:
    """Stands in for `Results`."""

    def __init__(self):
        self.units = {}


@pytest.fixture
def table_3():
    """Table 3 with three seeds; the last row has one, the one before has diverged."""
    experiment, random = experiments({})["table3"], np.random.default_rng(0)
    planner, results = Planner(SCALES["small"]()), Made()
    for place, row in enumerate(experiment.rows):
        for seed in range(3):
            if place == 8 and seed:
                continue
            outcome = DIVERGED if place == 7 else DONE
            validation = {name: random.random() for name in (NSP, MLM, NATS, IC)}
            name = planner.pretraining(row.recipe, seed)
            results.units[name] = {"outcome": outcome, "validation": validation}
    filled = cells.of_pretraining(experiment, results, planner.pretraining, range(3))
    return experiment, planner, results, filled


def test_cells_are_means_over_seeds(table_3):
    experiment, planner, results, filled = table_3
    for place, row in enumerate(experiment.rows[:7]):
        runs = [results.units[planner.pretraining(row.recipe, s)]["validation"] for s in range(3)]
        for column in (NSP, MLM, IC):
            found = filled.estimate(place, column)
            assert found.mean == pytest.approx(mean(run[column] for run in runs))
            assert found.error == pytest.approx(stats.sem([run[column] for run in runs]))
        both = [(run[MLM] + run[IC]) / 2 for run in runs]
        assert filled.estimate(place, cells.MEAN).mean == pytest.approx(mean(both))
        error = stdev(both) / 3**0.5
        assert filled.estimate(place, cells.MEAN).error == pytest.approx(error)
    assert filled.estimate(7, NSP) is None
    assert filled.estimate(8, NSP).count == 1


def test_the_page(table_3):
    experiment, _, _, filled = table_3
    text = report.section(filled, report.deviations([filled]))
    first = filled.estimate(0, NSP)
    assert "ours minus the paper's:" in text and "of other tasks" not in text
    assert f"| 0.1 | {first.mean:.4f} ± {first.error:.4f} |" in text
    # Of the paper 98.7, and how far ours is from that.
    assert f"| 0.1 | 98.7 ({100 * first.mean - 98.7:+.1f}) |" in text
    ours = [filled.estimate(place, IC).mean for place in range(9) if place != 7]
    theirs = [row.paper[IC] for place, row in enumerate(experiment.rows) if place != 7]
    found = stats.spearmanr(ours, theirs).statistic
    assert re.search(rf"order of the rows: .*IC {re.escape(f'{found:+.2f}')}", text)
    [line] = [line for line in text.splitlines() if line.startswith(f"  - {cells.MEAN}: ")]
    assert re.search(r"0\.2|0\.5", line) and "over 3 seeds" in line
    # Seven rows of three seeds, and one of one: (7 - 1) * (3 - 1).
    assert f"all trained rows: {cells.MEAN} 12." in text
    ratios = [float(row.label[0]) for place, row in enumerate(experiment.rows) if place != 7]
    found = stats.spearmanr(ratios, ours).statistic
    assert re.search(rf"with `image_loss_ratio`, .*IC {re.escape(f'{found:+.2f}')} \(p = ", text)


def test_averages_are_of_tasks_and_then_of_modalities():
    scale, results = SCALES["small"](), Made()
    planner, experiment = Planner(scale), experiments({})["table1"]
    random, values = np.random.default_rng(1), {}
    rows = {row.label[0]: row.recipe for row in experiment.rows}
    assert rows["Joint"] == JOINT and rows["ViT-BERT"] == FULL
    for row in experiment.rows:
        for task in scale.tasks:
            value = values[row.label, task.name] = random.random()
            name = planner.fine_tuning(row.recipe, task, 0, range(1))
            results.units[name] = {"outcome": DONE, "value": value}
        if row.recipe.variant != "rand":
            name = planner.pretraining(row.recipe, 0)
            measured = {"image_accuracy": 0.25} if row.recipe.variant == "vit" else {}
            results.units[name] = {"outcome": DONE, "validation": {NSP: 0.75} | measured}
    pretraining = cells.of_pretraining(
        experiment,
        results,
        lambda recipe, seed: (
            None if recipe.variant == "rand" else planner.pretraining(recipe, seed)
        ),
        range(1),
    )
    filled = cells.of_tasks(
        experiment,
        results,
        lambda recipe, task, seed: planner.fine_tuning(recipe, task, seed, range(1)),
        planner.probing,
        scale.tasks,
        range(1),
        pretraining,
    )
    for place, row in enumerate(experiment.rows):
        text = mean(values[row.label, name] for name in ("next", "source"))
        images = values[row.label, "cifar10"]
        assert filled.estimate(place, cells.TEXT).mean == pytest.approx(text)
        assert filled.estimate(place, cells.AVERAGE).mean == pytest.approx((text + images) / 2)
        assert filled.estimate(place, f"{cells.PROBE}text") is None
    text = report.section(filled, report.deviations([filled]))
    assert "In pre-training:" in text and "| ViT | 0.7500 |  |  | 0.2500 |  | 1 |" in text
    assert "of other tasks, so that only the order of rows counts:" in text
    assert "which says nothing about other seeds" in text and "Does distillation help?" in text


def test_the_error_of_an_average_is_that_of_the_same_tasks():
    """Text is the mean of two tasks in Table 1, and one of them in the merging ablation."""
    scale, results, random = SCALES["small"](), Made(), np.random.default_rng(2)
    planner, filled, cells_of = Planner(scale), [], {}
    few = [task for task in scale.tasks if task.name in scale.few]
    assert {task.name for task in few} == {"next", "cifar10"}
    for name, tasks in (("table1", scale.tasks), ("merging", few)):
        experiment = experiments({})[name]
        for row in experiment.rows:
            for seed, task in itertools.product(range(3), scale.tasks):
                named = planner.fine_tuning(row.recipe, task, seed, range(3))
                # Much noise in the one task, little in the other.
                value = random.normal(scale=0.1 if task.name == "next" else 0.001)
                entry = results.units.setdefault(named, {"outcome": DONE, "value": value})
                if row.recipe.variant != "rand":
                    cells_of[row.recipe, task.name, seed] = entry["value"]
        filled.append(
            cells.of_tasks(
                experiment,
                results,
                lambda recipe, task, seed: planner.fine_tuning(recipe, task, seed, range(3)),
                planner.probing,
                tasks,
                range(3),
            )
        )
    found = report.deviations(filled)

    def error_of(experiments, *names):
        recipes = {row.recipe for one in experiments for row in one.experiment.rows}
        rows = [
            [mean(cells_of[recipe, name, seed] for name in names) for seed in range(3)]
            for recipe in recipes
            if recipe.variant != "rand"
        ]
        left = np.array(rows) - np.mean(rows, 1, keepdims=True)
        left -= left.mean(0)
        freedom = (len(rows) - 1) * 2
        return np.sqrt((left**2).sum() / freedom), freedom

    one, both = found["next",], found["next", "source"]
    assert (one.value, one.freedom) == pytest.approx(error_of(filled, "next"))
    assert (both.value, both.freedom) == pytest.approx(error_of(filled[:1], "next", "source"))
    assert one.value > 1.5 * both.value
    assert f"text {both.freedom}, images {one.freedom}" in report.section(filled[0], found)
    assert f"text {one.freedom}, images {one.freedom}" in report.section(filled[1], found)


def test_sharing_by_depth():
    random = np.random.default_rng(3)
    entries = {}
    for seed in range(3):
        overlap, correlation, cleared = random.random((3, 4)) + [[0, 0, 2, 2]]
        entries[seed] = {
            "co_activation": {"overlap": list(overlap), "correlation": list(correlation)},
            "mask": {"sparsity_per_block": {f"block_{n}": v for n, v in enumerate(cleared)}},
        }
    entries[3] = {"co_activation": {}, "mask": {}}  # was not looked at
    filled = cells.of_blocks(entries)
    assert len(filled.experiment.rows) == 4 and filled.columns == filled.asked
    for place in range(4):
        found = [entries[seed]["co_activation"]["overlap"][place] for seed in range(3)]
        assert filled.estimate(place, "overlap").mean == pytest.approx(mean(found))
        found = [entries[s]["mask"]["sparsity_per_block"][f"block_{place}"] for s in range(3)]
        assert filled.estimate(place, "cleared").mean == pytest.approx(mean(found))
    text = report.section(filled, report.deviations([filled]))
    assert "cleared 6." in text  # degrees of freedom: (4 - 1) * (3 - 1)
    assert "overlap: (2, 3) above (0, 1) by " in text
    assert cells.of_blocks({0: entries[3]}) is None

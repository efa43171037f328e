"""Tables and answers of results that were made up, by numbers that were computed apart."""

import itertools
from statistics import mean, stdev

import numpy as np
import pytest

from keras_vitbert import reproduce
from keras_vitbert.extras.reproduction import page
from keras_vitbert.extras.reproduction.plan import Plan, get_scale, job_name
from keras_vitbert.extras.reproduction.running import DIVERGED, DONE, Results
from keras_vitbert.extras.reproduction.statistics import deviations, fill, fill_all
from keras_vitbert.extras.reproduction.tables import IC, MEAN, MLM, NATS, NSP, RAND, tables
from tests.documents.markdown import ROOT

TRANSFER = get_scale("transfer", "data", {})


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


def test_the_committed_page_of_the_scale_transfer():
    """A teacher was fine-tuned with two seeds on one task, and with one on the others."""
    folder = ROOT / "docs" / "reproduction"
    results = Results(str(folder / "transfer.json"), "transfer", "out")
    written = page.page(fill_all(Plan(TRANSFER, "out"), results.jobs), results)
    assert written == (folder / "transfer.md").read_text()
    [row, _] = [line for line in written.splitlines() if line.startswith("| BERT, teacher")]
    assert row.endswith("| 1 to 2 |")


def test_table_cells_are_means_over_seeds():
    """The last row has one of three seeds, the one before has diverged."""
    table, random, jobs = tables()["table3"], np.random.default_rng(0), {}
    for place, row in enumerate(table.rows):
        for seed in range(1 if place == 8 else 3):
            entry = {"outcome": DIVERGED}
            if place != 7:
                validation = {name: random.random() for name in (NSP, MLM, NATS, IC)}
                entry = {"outcome": DONE, "validation": validation}
            jobs[job_name("pretrain", row.recipe, seed)] = entry
    filled = fill(table, jobs, [], range(3))
    entries = [jobs[job_name("pretrain", table.rows[0].recipe, s)] for s in range(3)]
    both = [(e["validation"][MLM] + e["validation"][IC]) / 2 for e in entries]
    ours = filled.estimate(0, MEAN)
    assert (ours.mean, ours.error) == pytest.approx((mean(both), stdev(both) / 3**0.5))
    assert filled.estimate(7, NSP) is None
    assert filled.estimate(8, NSP).seeds == 1


def test_each_task_is_asked_of_its_own():
    """A mean of tasks may hide that one of them is against it. Teachers are no seeds of a row."""
    random, jobs, asked = np.random.default_rng(3), {}, [tables()[n] for n in TRANSFER.tables]
    rows, table = [row for one in asked for row in one.rows], asked[1]
    for row, seed, task in itertools.product(rows, range(5), TRANSFER.tasks):
        for kind in ("finetune", "probe"):
            name = job_name(kind, row.recipe, seed, task.name)
            jobs[name] = {"outcome": DONE, "value": random.normal(0.5, 0.01)}
    controls, answers = (fill(one, jobs, TRANSFER.tasks, range(5)) for one in asked)
    assert answers.asked == ("cifar10", "next", "swapped", "swapped500")
    found = deviations([controls, answers])
    cells = [[jobs[job_name("finetune", row.recipe, seed, "next")]["value"] for seed in range(5)]
             for row in table.rows if row.recipe.variant != RAND]  # fmt: skip
    left = np.array(cells) - np.mean(cells, 1, keepdims=True)
    left -= left.mean(0)
    assert found["next",].value == pytest.approx(np.sqrt((left**2).sum() / (6 * 4)))
    assert page.section(answers, found).count("  - swapped500: ") == len(table.questions)
    assert "minus" not in page.section(controls, {})

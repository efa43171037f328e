"""The search for a learning rate and the summary of its seeds, with trials that are made up."""

import csv
import hashlib
import io
import json
import os
import statistics

import pytest
import tensorflow as tf

from keras_vitbert.configs import fine_tuning
from keras_vitbert.configs.devices import Devices
from keras_vitbert.experiments.fine_tuning import search
from keras_vitbert.experiments.fine_tuning.inputs import Inputs
from keras_vitbert.experiments.fine_tuning.pretrained import RANDOM, Pretrained
from keras_vitbert.experiments.fine_tuning.search import FineTuningRun
from keras_vitbert.experiments.fine_tuning.task_data import open_task
from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from keras_vitbert.runs.machine import Machine, Workers
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.runs.run_lock import Locked, held
from pipelines.command_line import Diverged
from tests.keras_vitbert.tiny_runs import VOCABULARY, content_of, files_below
from tests.keras_vitbert.tiny_tasks import TEXTS

RATES = (0.1, 0.01, 0.001)


@pytest.fixture(scope="module")
def data(text_task):
    config = fine_tuning.get_config("texts", "text")
    return open_task(TASKS["texts"], config, VOCABULARY, 12, str(text_task))


@pytest.fixture
def tune(data, tiny, tmp_path, monkeypatch):
    """`tune(values, seeds, sweep, metric) -> (summary, trials)`.

    `values` says what a trial reaches: dict of (purpose, rate) to a list by seed; None where it
    diverges. The trials that were asked for are (`Trial`, training split, splits to evaluate).
    """
    asked = []

    def tune(values, seeds=1, sweep=True, metric="accuracy", dry_run=False, **changes):
        def run_trial(run, trial, examples, label, later):
            train, tests = examples[""].train, examples[""].tests
            asked.append((trial, train, tests))
            value = values[trial.purpose, trial.learning_rate][trial.seed]
            measures = {"accuracy": 0.5, "f1": 0.4, "mcc": 0.3, "log_loss": 0.2, "ece": 0.1}
            measures[metric] = value
            numbers = {"steps": 4, "seconds": 1.5, "parameters": 100, "trained_parameters": 10}
            result = {**vars(trial), **numbers, "diverged": value is None, "splits": {}}
            result["still_improves"] = False
            result |= {"time": {}, "classes": {name: [] for name in tests}}
            result["transfer"] = {"encoder": "fresh"}
            if value is not None:
                for name, split in tests.items():
                    one = {"examples": split.count, **measures, "majority_accuracy": 0.6}
                    result["splits"][name] = one
            folder = RunFolder(os.path.join(run.folder.path, "trials", trial.name))
            tf.io.gfile.makedirs(folder.path)
            predictions = f"split,index,label,prediction\nvalidation,0,1,{trial.seed}\n"
            digest = hashlib.sha256(predictions.encode()).hexdigest()
            folder.write("predictions.csv", predictions)
            folder.write("result.json", json.dumps(result | {"predictions_sha256": digest}))
            return result

        monkeypatch.setattr(search, "run_trial", run_trial)
        own = {
            "grid": RATES,
            "metric": metric,
            "epochs": 3.0,
            "most_steps": 0,
            "optimizer.learning_rate": 5e-5,
        }
        config = fine_tuning.get_config("texts", "text").with_values({**own, **changes})
        strategy = tf.distribute.get_strategy()
        model = {**tiny, "max_sequence_length": 16}
        run = FineTuningRun(
            config=config,
            folder=RunFolder(str(tmp_path / "run")),
            machine=Machine(strategy, Workers(strategy), Devices()),
            data={"": data},
            inputs=Inputs(checkpoint=RANDOM),
            pretrained=Pretrained(RANDOM, "x", 0, "sha", model, None, VOCABULARY),
            sweep=sweep,
            seeds=seeds,
        )
        return run.train(dry_run), asked

    return tune


def results(tmp_path):
    with open(tmp_path / "run" / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("reached", "best", "metric"),
    [
        ((0.9, 0.1, 0.9), 0.001, "accuracy"),  # the smallest of equals
        ((-0.1, -0.2, None), 0.1, "mcc"),
    ],
)
def test_the_best_rate_is_picked(tune, reached, best, metric):
    values = {("sweep", rate): [value] for rate, value in zip(RATES, reached, strict=True)}
    summary, _ = tune({**values, ("seed", best): [0.7]}, metric=metric)
    assert summary["learning_rate"] == best
    assert summary["sweep"] == {
        f"{rate:g}": value for rate, value in zip(RATES, reached, strict=True)
    }
    assert (summary["metric"], summary["value"]) == (metric, 0.7)
    with pytest.raises(Diverged, match="grid"):
        tune({("sweep", rate): [None, None] for rate in RATES}, metric=metric, seed=1)


def test_rates_are_picked_on_examples_that_are_not_reported(tune, data):
    values = {("sweep", rate): [0.5] for rate in RATES}
    summary, trials = tune({**values, ("seed", 0.001): [0.5, 0.6]}, seeds=2)
    assert [(t.purpose, t.learning_rate, t.seed) for t, _, _ in trials] == [
        *(("sweep", rate, 0) for rate in RATES),
        ("seed", 0.001, 0),
        ("seed", 0.001, 1),
    ]
    for trial, train, tests in trials:
        if trial.purpose == "sweep":
            assert list(tests) == ["selection"]
            assert train.count + tests["selection"].count == TEXTS["train"]
        else:
            assert train is data.train and tests == data.tests
    assert summary["learning_rate_picked_on"] == "3 of the 30 training examples"
    assert summary["training_examples"] == TEXTS["train"]


@pytest.mark.parametrize("reached", [[0.1, 0.7, 0.3], [0.4, 0.1, 0.9, 0.2]])
def test_the_summary_is_of_all_seeds_and_the_model_of_their_median(tune, tmp_path, reached):
    summary, _ = tune({("seed", 5e-5): reached}, seeds=len(reached), sweep=False)
    assert summary["learning_rate"] == 5e-5
    assert (summary["learning_rate_picked_on"], summary["sweep"]) == ("the task's own", {})
    assert summary["value"] == statistics.median(reached)
    assert (summary["minimum"], summary["maximum"]) == (min(reached), max(reached))
    assert summary["splits"]["validation"]["accuracy"]["values"] == reached
    assert summary["splits"]["validation"]["examples"] == TEXTS["dev"]
    assert summary["seconds"] == 1.5 * len(reached)
    seed = reached.index(statistics.median_low(reached))
    assert summary["model"] == summary["trials"][seed] == f"trials/seed-rate-5e-05-seed-{seed}"
    assert content_of(tmp_path / "run" / "summary.json") == summary
    assert [float(row["accuracy"]) for row in results(tmp_path)] == reached
    assert [row["split"] for row in results(tmp_path)] == ["validation"] * len(reached)

    path = tmp_path / "all.csv"
    search.collect(str(path), str(tmp_path / "run"), summary)
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [row["seed"] for row in rows] == [row["prediction"] for row in rows]
    assert [int(row["seed"]) for row in rows] == summary["seeds"] == list(range(len(reached)))


def test_results_of_earlier_calls_stay(tune, tmp_path):
    values = {("sweep", rate): [rate] for rate in RATES}
    values |= {("seed", 0.1): [0.5, 0.6], ("seed", 5e-5): [0.7]}
    tune(values, seeds=2)
    kept = results(tmp_path)
    summary, _ = tune(values, sweep=False)
    assert summary["seeds"] == [0] and summary["learning_rate"] == 5e-5
    found = results(tmp_path)
    # The sweep first, then by rate and seed.
    assert found[:3] == kept[:3] and found[4:] == kept[3:]
    assert (found[3]["purpose"], float(found[3]["learning_rate"])) == ("seed", 5e-5)


def test_nothing_is_recorded_while_another_process_trains_there(tune, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with held(str(folder)), pytest.raises(Locked, match=str(folder)):
        tune({("seed", 5e-5): [0.5]}, sweep=False)
    assert not list(folder.iterdir())


def test_a_dry_run_is_refused_like_the_run_and_writes_nothing(tune, tmp_path):
    folder, values = tmp_path / "run", {("seed", 5e-5): [0.5]}
    assert tune(values, sweep=False, dry_run=True) == ({}, [])
    assert not folder.exists()
    tune(values, sweep=False)
    before = files_below(tmp_path)
    assert tune(values, sweep=False, dry_run=True)[0] == {}
    for dry_run in (True, False):
        with pytest.raises(ValueError, match="label_smoothing"):
            tune(values, sweep=False, dry_run=dry_run, label_smoothing=0.1)
    assert files_below(tmp_path) == before

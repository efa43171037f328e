"""What is run, how often, and what a stop or a failure does to it."""

import json
import os
import pathlib
import shutil
import signal
import threading
import time

import pytest

from keras_vitbert.extras.reproduction import running
from keras_vitbert.extras.reproduction.plan import Job, Plan, Scale
from keras_vitbert.extras.reproduction.running import (
    DIVERGED,
    DONE,
    Results,
    best_rate,
    missing,
    numbers_of,
    run_missing,
)
from pipelines.command_line import Stopped, stop_request, stop_signals


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setattr(
        running, "COMMAND", ("-m", "tests.keras_vitbert.extras.reproduction.fake_run")
    )
    monkeypatch.setattr(running, "commit", lambda: "abc")
    return str(tmp_path / "out")


@pytest.fixture
def chain(out):
    """A teacher, a student and its fine-tuning."""

    def chain(**inputs):
        teacher = Job("pretrain/vit-s0", inputs.get("teacher", {}))
        needs = {"needs": [f"{out}/{teacher.name}"], **inputs.get("student", {})}
        student = Job("pretrain/vitbert-s0", needs, needs=(teacher.name,))
        return [teacher, student, tuned(out, "a")]

    return chain


def tuned(out, task, seed=0, rates_of=()):
    needs, values = {"needs": [f"{out}/pretrain/vitbert-s0"]}, {"seed": seed}
    name = f"finetune/{task}/vitbert-s{seed}"
    return Job(name, needs, "images", values, ("pretrain/vitbert-s0",), rates_of)


def call(out, runs, parallel=1):
    results = Results(os.path.join(os.path.dirname(out), "results.json"), "sample", out)
    plan = Plan(Scale("sample", {}, "", ()), out)
    plan.jobs = {run.name: run for run in runs}
    results.require_settings(runs)
    if missing(plan.jobs, results):
        run_missing(plan, results, parallel, {})
    return results


def calls(out, *runs):
    paths = [pathlib.Path(out, run.name, "calls") for run in runs]
    return [len(path.read_text()) if path.exists() else 0 for path in paths]


def test_each_run_is_run_once_after_what_it_needs(out, chain):
    for _ in range(2):
        results = call(out, chain())
        assert calls(out, *chain()) == [1, 1, 1]
    assert {entry["outcome"] for entry in results.jobs.values()} == {DONE}
    entry = results.jobs["finetune/a/vitbert-s0"]
    assert (entry["value"], entry["majority"], entry["commit"]) == (0.25, 0.5, "abc")
    assert "OUTPUT/finetune/a/vitbert-s0" in entry["command"] and out not in entry["command"]


def test_a_folder_that_is_needed_again_is_made_again(out, chain, capsys):
    before = call(out, chain())
    before.jobs["pretrain/vit-s0"]["seconds"] = 7.0  # says nothing
    before.jobs["pretrain/vitbert-s0"]["steps"] = 7  # as another machine may have found
    before.add(tuned(out, "a"), [], DONE)  # writes the file
    shutil.rmtree(out)
    second = tuned(out, "b", 1, rates_of=("finetune/a/vitbert-s0",))
    call(out, [*chain(), second])
    summary = json.loads(pathlib.Path(out, second.name, "summary.json").read_text())
    assert summary["asked"]["values"] == {"seed": 1, "optimizer.learning_rate": 0.25}
    # The student is read, and for that its teacher; the first fine-tuning is not.
    assert calls(out, *chain(), second) == [1, 1, 0, 1]
    [line] = [line for line in capsys.readouterr().err.splitlines() if "other numbers" in line]
    assert line.startswith("pretrain/vitbert-s0 ")


def test_what_needs_a_run_that_diverged_is_not_run(out, chain):
    runs = chain(teacher={"status": 3})
    results = call(out, runs)
    assert {entry["outcome"] for entry in results.jobs.values()} == {DIVERGED}
    assert calls(out, *runs) == [1, 0, 0]
    assert missing({run.name: run for run in runs}, results) == []


def test_a_run_that_fails_stops_all_and_keeps_what_is_done(out, chain):
    with pytest.raises(ValueError, match="pretrain/vitbert-s0"):
        call(out, chain(student={"status": 2}))
    assert calls(out, *chain()) == [1, 1, 0]
    assert call(out, chain()[:1]).jobs.keys() == {"pretrain/vit-s0"}
    assert calls(out, *chain()[:1]) == [1]


def test_other_settings_or_data_than_those_of_a_finished_run(out, chain):
    results = call(out, chain()[:1])
    shutil.rmtree(out)  # a finished job counts without its folder
    assert call(out, chain()[:1]).jobs.keys() == {"pretrain/vit-s0"} and not os.path.exists(out)
    with pytest.raises(ValueError, match="pretrain/vit-s0"):
        call(out, chain(teacher={"x": 1})[:1])
    results.require_data({"text": "1"})
    with pytest.raises(ValueError, match="text"):
        results.require_data({"text": "2"})


def test_another_rate_than_that_of_its_sweeps(out, chain):
    jobs = [*chain(), tuned(out, "b", 1, rates_of=("finetune/a/vitbert-s0",))]
    results = call(out, jobs)
    call(out, jobs)
    results.jobs["finetune/a/vitbert-s0"]["sweep"] = {"0.5": 1.0}
    results.add(jobs[0], [], DONE)  # writes the file
    with pytest.raises(ValueError, match="finetune/b/vitbert-s1"):
        call(out, jobs)


def test_several_run_at_a_time(out):
    names = ("pretrain/vit-s0", "pretrain/bert-s0")
    pairs = zip(names, reversed(names), strict=True)
    results = call(out, [Job(name, {"beside": f"{out}/{other}"}) for name, other in pairs], 2)
    assert results.jobs.keys() == set(names)


def test_a_signal_is_handed_on(out, chain, monkeypatch):
    monkeypatch.setattr(stop_request, "requested", False)  # and again after the test
    began = os.path.join(out, "pretrain/vitbert-s0", "began")

    def stop():
        while not os.path.exists(began):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop).start()
    with stop_signals(), pytest.raises(Stopped):
        call(out, chain(student={"wait": True}))
    assert call(out, chain()[:1]).jobs.keys() == {"pretrain/vit-s0"}


def test_the_rate_is_that_of_the_best_mean_of_all_sweeps():
    sweeps = [{"0.1": 0.5, "0.3": 0.75, "1": 0.9}, {"0.1": 0.75, "0.3": 0.5, "1": None}]
    assert best_rate(sweeps) == 0.1  # the smaller of equals; the largest diverged once
    assert best_rate([sweeps[0], {**sweeps[1], "0.3": 0.51}]) == 0.3


def test_what_is_reported():
    """Of test examples: those of validation, which come first, have picked the learning rate."""
    values, splits = {"validation": 0.75, "test": 0.25}, {}
    for split, value in values.items():
        measures = {"examples": 4, "majority_accuracy": 0.5, "accuracy": {"median": value}}
        splits[split] = {"finetune": measures, "probe": {"0": {"ridge": [value, value]}}}
        # Whichever classifier is better on the test examples, and with all training examples.
        splits[split]["probe"] |= {"5": {"ridge": [0.1], "neighbours": [0.9]}}
        splits[split]["probe"]["0"]["neighbours"] = [0.9, 0.9]
    for kind in ("finetune", "probe"):
        of_kind = {split: both[kind] for split, both in splits.items()}
        assert numbers_of(kind, {"splits": of_kind, "metric": "accuracy"})["value"] == 0.25
        del of_kind["test"]
        assert numbers_of(kind, {"splits": of_kind, "metric": "accuracy"})["value"] == 0.75

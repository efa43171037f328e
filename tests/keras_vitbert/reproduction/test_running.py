"""What is run, how often, and what a stop, a failure or another machine does to it."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from keras_vitbert.reproduction.results import DIVERGED, DONE, Results
from keras_vitbert.reproduction.running import missing, run_missing
from keras_vitbert.reproduction.units import Unit
from keras_vitbert.runs.run_lock import Locked, held
from pipelines.command_line import Stopped, stop_request, stop_signals

FAKE = "tests.keras_vitbert.reproduction.fake_command"


def unit(name, *needs, flags=(), rate_of=""):
    arguments = (*flags, "--needs=" + ",".join(f"{{{need}}}" for need in needs))
    return Unit(name, FAKE, arguments, 0, rate_of)


TEACHER = unit("pretrain/vit-s0")
STUDENT = unit("pretrain/vitbert-s0", "pretrain/vit-s0")
FIRST = unit("finetune/a/vitbert-s0", "pretrain/vitbert-s0")
UNITS = [TEACHER, STUDENT, FIRST]


@pytest.fixture
def run(tmp_path):
    """`run(units) -> Results`, of the folder `run.output`."""

    def run(units):
        results = Results(str(tmp_path / "results.json"), "sample", run.output)
        run_missing(
            units,
            results,
            "data",
            lambda unit, summary: {"learning_rate": 0.5, "seconds": summary["seconds"]},
            lambda units: 0.0,
        )
        return results

    run.output = str(tmp_path / "out")
    return run


def calls(run, unit):
    path = os.path.join(run.output, unit.name, "calls")
    return len(open(path).read()) if os.path.exists(path) else 0


def test_each_unit_is_run_once_after_what_it_needs(run):
    results = run(UNITS)
    assert [calls(run, unit) for unit in UNITS] == [1, 1, 1]
    assert {entry["outcome"] for entry in results.units.values()} == {DONE}
    run(UNITS)
    assert [calls(run, unit) for unit in UNITS] == [1, 1, 1]


def test_what_stands_in_results_is_finished_without_its_folder(run):
    run(UNITS)
    shutil.rmtree(run.output)
    assert run(UNITS).units.keys() == {unit.name for unit in UNITS}
    assert not os.path.exists(os.path.join(run.output, "pretrain"))


def test_a_folder_that_is_needed_again_is_made_again(run, capsys):
    run(UNITS)
    shutil.rmtree(run.output)
    second = unit("finetune/b/vitbert-s0", "pretrain/vitbert-s0")
    results = run([*UNITS, second])
    assert "learning_rate" not in capsys.readouterr().err
    # The student is read, and for that its teacher; the first fine-tuning is not.
    assert [calls(run, unit) for unit in (TEACHER, STUDENT, FIRST, second)] == [1, 1, 0, 1]
    assert second.name in results.units


def test_what_is_made_again_with_other_numbers_is_said(run, capsys):
    before = run(UNITS)
    before.units[TEACHER.name]["learning_rate"] = 0.25  # as another machine may have found it
    with open(before.path, "w") as file:
        json.dump({"schema": 1, "scale": "sample", "data": {}, "units": before.units}, file)
    shutil.rmtree(run.output)
    results = run([*UNITS, unit("finetune/b/vitbert-s0", "pretrain/vitbert-s0")])
    [line] = [line for line in capsys.readouterr().err.splitlines() if "learning_rate" in line]
    assert TEACHER.name in line and "0.25" in line and "0.5" in line
    assert results.units[TEACHER.name]["learning_rate"] == 0.25


def test_the_rate_of_another_unit(run):
    second = unit("finetune/a/vitbert-s1", "pretrain/vitbert-s0", rate_of=FIRST.name)
    run([*UNITS, second])
    with open(os.path.join(run.output, second.name, "summary.json")) as file:
        assert json.load(file)["flags"]["config.optimizer.learning_rate"] == "0.5"


def test_what_needs_a_run_that_diverged_is_not_run(run):
    diverged = unit(TEACHER.name, flags=("--status=3",))
    results = run([diverged, STUDENT, FIRST])
    assert {entry["outcome"] for entry in results.units.values()} == {DIVERGED}
    assert [calls(run, unit) for unit in UNITS] == [1, 0, 0]
    assert missing([diverged, STUDENT, FIRST], results) == []


def test_a_command_that_fails_stops_all_and_keeps_what_is_done(run):
    failing = unit(STUDENT.name, TEACHER.name, flags=("--status=2",))
    with pytest.raises(ValueError, match=STUDENT.name):
        run([TEACHER, failing, FIRST])
    assert [calls(run, unit) for unit in UNITS] == [1, 1, 0]
    results = run([TEACHER])
    assert results.units.keys() == {TEACHER.name} and calls(run, TEACHER) == 1


def test_other_settings_than_those_of_a_finished_unit(run):
    run([TEACHER])
    with pytest.raises(ValueError, match=TEACHER.name):
        run([unit(TEACHER.name, flags=("--config.steps=7",))])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_handed_on(run, number, monkeypatch):
    monkeypatch.setattr(stop_request, "requested", False)  # and again after the test
    waiting = unit(STUDENT.name, TEACHER.name, flags=("--wait",))
    began = os.path.join(run.output, STUDENT.name, "began")

    def stop():
        while not os.path.exists(began):
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    threading.Thread(target=stop).start()
    with stop_signals(), pytest.raises(Stopped, match=STUDENT.name):
        run([TEACHER, waiting, FIRST])
    assert run(UNITS[:1]).units.keys() == {TEACHER.name}


@pytest.mark.slow
def test_a_command_outlives_a_process_that_is_killed_and_keeps_its_lock(run):
    """Nobody else begins the same unit meanwhile."""
    lock = os.path.join(run.output, "locks", STUDENT.name)
    began = os.path.join(run.output, STUDENT.name, "began")
    code = (
        "import sys; from keras_vitbert.reproduction.running import called; "
        "from keras_vitbert.runs.run_lock import held; lock, *command = sys.argv[1:]\n"
        "with held(lock) as file: called(command, file)"
    )
    os.makedirs(lock)
    command = ["-m", FAKE, "--wait", f"--output_dir={os.path.dirname(began)}"]
    parent = subprocess.Popen([sys.executable, "-c", code, lock, *command])
    while not os.path.exists(began):
        time.sleep(0.05)
    children = f"/proc/{parent.pid}/task/{parent.pid}/children"
    [child] = map(int, pathlib.Path(children).read_text().split())
    parent.kill()
    parent.wait()
    with pytest.raises(Locked):
        stack = contextlib.ExitStack()
        stack.enter_context(held(lock))
    os.kill(child, signal.SIGTERM)
    while True:
        with contextlib.suppress(Locked), held(lock):
            break
        time.sleep(0.05)


def test_processes_with_other_tables_keep_each_others_results(run, tmp_path):
    first = Results(str(tmp_path / "results.json"), "sample", run.output)
    run([TEACHER])  # another process, after the first one has read the file
    shutil.rmtree(os.path.join(run.output, TEACHER.name))
    other = unit("pretrain/bert-s0")
    first.finish(other, None, DONE, {})
    first.collect([other])
    assert first.units.keys() == {TEACHER.name, other.name}
    again = Results(str(tmp_path / "results.json"), "sample", run.output)
    assert again.units == first.units


def test_a_damaged_unit_is_named(run):
    run([TEACHER])
    path = os.path.join(run.output, TEACHER.name, "unit.json")
    with open(path, "w") as file:
        file.write("{}")
    results = Results(os.path.join(run.output, "others.json"), "sample", run.output)
    with pytest.raises(ValueError, match=path):
        results.collect([TEACHER])


def test_what_another_machine_runs_is_left_to_it(run, tmp_path, monkeypatch):
    """It holds the lock of one unit, and ends it while this one waits."""
    monkeypatch.setattr("keras_vitbert.reproduction.running._POLL", 0.1)
    other = unit("pretrain/bert-s0")
    lock = os.path.join(run.output, "locks", other.name)
    os.makedirs(lock)
    elsewhere = Results(str(tmp_path / "elsewhere.json"), "sample", run.output)
    os.makedirs(os.path.join(run.output, other.name))

    def end():
        with held(lock):
            taken.set()
            while not calls(run, TEACHER):
                time.sleep(0.05)
            elsewhere.finish(other, None, DONE, {"seconds": 2.0})

    taken = threading.Event()
    thread = threading.Thread(target=end)
    thread.start()
    taken.wait()
    results = run([other, TEACHER])
    thread.join()
    assert calls(run, other) == 0 and results.units[other.name]["seconds"] == 2.0

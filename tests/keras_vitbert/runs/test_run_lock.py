"""One process at a time trains in a folder; a lock of a dead one does not hold."""

import contextlib
import os
import re
import signal
import threading
import time

import pytest

from keras_vitbert.runs import run_lock
from pipelines.command_line import EXIT_BAD_INPUT
from tests.forked import Forked
from tests.keras_vitbert.tiny_runs import files_below, pretrain


def hold(folder, ready):
    with run_lock.held(folder):
        open(ready, "w").close()
        signal.pause()


@pytest.mark.slow
def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    holder = Forked(hold, str(folder), str(tmp_path / "ready"))
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    [process] = re.findall(r"^process (\d+) on ", (folder / "LOCK").read_text())
    with pytest.raises(ValueError, match=f"^{folder}: process {process} on "):
        with run_lock.held(str(folder)):
            pass
    os.kill(int(process), signal.SIGKILL)
    holder.end()
    with run_lock.held(str(folder)):
        assert f"process {os.getpid()} on" in (folder / "LOCK").read_text()
    assert not os.listdir(folder)


def test_of_many_that_begin_at_once_one_at_a_time_gets_it(tmp_path):
    inside, most = 0, 0

    def work():
        nonlocal inside, most
        done = 0
        while done < 50:
            with contextlib.suppress(run_lock.Locked), run_lock.held(str(tmp_path)):
                inside += 1
                most, done = max(most, inside), done + 1
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and not os.listdir(tmp_path)


def test_the_command_waits_for_nobody(sources, unfinished, capsys):
    with run_lock.held(str(unfinished)):
        before = files_below(unfinished)
        assert pretrain(sources, unfinished, "--variant=vit") == EXIT_BAD_INPUT
        assert f"{unfinished}: process {os.getpid()} on " in capsys.readouterr().err
        assert files_below(unfinished) == before

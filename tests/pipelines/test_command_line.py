import ctypes
import errno
import os
import pathlib
import signal
import subprocess
import sys

import pytest
import tensorflow as tf

from pipelines import command_line
from pipelines.command_line import Diverged, Stopped, run, stop_request, stop_signals

ROOT = pathlib.Path(command_line.__file__).parents[1]


def raising(error):
    def main(argv):
        assert argv == []  # without --debug
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("x.txt: no such file; fix --x"), 2, "error: x.txt: no such file; fix --x\n"),
        (Diverged("the loss is nan"), 3, "diverged: the loss is nan\n"),
        (Stopped("by SIGTERM"), 75, "stopped: by SIGTERM\n"),
        (OSError(errno.EROFS, "Read-only", "/x/y"), 2, "error: /x/y: Read-only\n"),
        (RuntimeError("/x; No space left on device"), 2, "error: /x; No space left on device\n"),
    ],
)
def test_a_status_and_one_line_for_each_end(capfd, error, status, line):
    assert run(raising(error), []) == status
    assert capfd.readouterr() == ("", line)
    assert run(raising(error), ["--debug"]) == status
    assert capfd.readouterr().err.startswith("Traceback")


def test_files_that_cannot_be_read_are_told_in_a_line(tmp_path, capfd):
    denied = tf.errors.PermissionDeniedError(None, None, "gs://x: HTTP response code 403")
    for culprit, main in (
        (tmp_path / "none", lambda argv: open(tmp_path / "none")),
        (tmp_path, lambda argv: tf.io.gfile.GFile(str(tmp_path)).read()),
        ("gs://x", raising(denied)),
    ):
        assert run(main, []) == 2
        [error] = capfd.readouterr().err.splitlines()
        assert error.startswith("error: ") and str(culprit) in error


def test_other_errors_are_not_hidden():
    lacking = tf.errors.NotFoundError(None, None, "Key x not found in checkpoint")
    for error in (RuntimeError("a bug"), KeyboardInterrupt(), SystemExit(0), lacking):
        with pytest.raises(type(error)):
            run(raising(error), [])


# (what `main` does, where stdout goes, status, stderr)
OUTPUTS = [
    ("print('x' * size)", "| true", 141, ""),
    ("print('x' * size)", "> /dev/full", 2, "error: stdout: No space left on"),
    ("print('x'); raise ValueError('fix it')", "> /dev/full", 2, "error: fix it"),
    ("command_line.say('x')", "2>&1 | true", 0, ""),
    # Libraries write to 2, whatever that is.
    ("assert open(os.devnull).fileno() != 2", "<&- >&- 2>&-", 0, ""),
]


@pytest.mark.parametrize(("action", "where", "status", "line"), OUTPUTS)
def test_output_that_nobody_takes(action, where, status, line):
    program = (
        "import os, sys, time; from pipelines import command_line\n"
        f"def main(argv): time.sleep(0.1); size = 99_999; {action}\n"
        "sys.exit(command_line.run(main))"
    )
    shell = f'"$0" -c "$1" {where}; exit ${{PIPESTATUS[0]}}'
    command = ["bash", "-c", shell, sys.executable, program]
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr[: len(line)]) == (status, line)
    assert done.stderr.count("\n") == bool(line)


@pytest.mark.parametrize("package", ["pipelines", "keras_vitbert", "tpu"])
def test_ctrl_c_while_a_command_is_loaded_needs_no_traceback(package):
    program = (
        f"import sys; sys.argv[0] = '-m'; import {package}\n"
        "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


def kill(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_command_where_it_stands(capfd, number):
    before = signal.getsignal(number)

    def main(argv):
        try:
            kill(number)
        except Exception:  # it is no error that a handler could take for its own
            pass
        raise AssertionError("went on")

    assert run(main, []) == 75
    err = capfd.readouterr().err
    assert err == f"stopped: by {signal.Signals(number).name}; run the same command again\n"
    assert signal.getsignal(number) is before


def test_a_deferred_signal_is_noted_and_the_second_ctrl_c_does_not_wait():
    with stop_signals() as request:
        assert request is stop_request and not request.requested
        with request.deferred():
            kill(signal.SIGTERM)
            assert request.requested
            kill(signal.SIGTERM)  # a scheduler may repeat itself
            with pytest.raises(Stopped, match="by SIGINT"):
                kill(signal.SIGINT)
        with pytest.raises(Stopped, match="before training began"), request.deferred():
            raise AssertionError("entered")
    with stop_signals() as request:  # another command
        assert not request.requested


def test_handlers_that_others_took_are_put_back():
    with stop_signals() as request, request.deferred():
        # As TensorFlow's servers do: without telling Python.
        ctypes.CDLL(None).signal(signal.SIGTERM, ctypes.c_void_p(1))  # SIG_IGN
        kill(signal.SIGTERM)
        assert not request.requested
        command_line.hear_signals_again()
        kill(signal.SIGTERM)
        assert request.requested


def test_what_loading_writes_is_shown_only_if_it_fails(capfd):
    for error in (ValueError, ImportError):
        with pytest.raises(error), command_line.quiet_loading():
            os.write(2, b"a note on CUDA\n")
            raise error
        assert ("a note on CUDA" in capfd.readouterr().err) == (error is ImportError)


INFO, ERROR = b"I0000 1.5 1 port.cc:1] a note\n", b"E0000 1.5 1 dso.cc:5] a driver fails\n"
HARMLESS = b"E0000 1.5 1 util.cc:1] oneDNN supports DT_INT64 only on platforms with AVX-512.\n"


@pytest.mark.parametrize("level", [None, "0", "2", "3"])
def test_of_what_loading_writes_tensorflow_s_errors_are_shown(capfd, monkeypatch, level):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    if level:
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
    older = b"2026-12-01 10:00:00.5: E tensorflow/x.cc:1] fails\n"
    with command_line.quiet_stderr():
        os.write(2, b"a warning of Python's\n" + INFO + HARMLESS + ERROR + older)
    shown = {"0": INFO + ERROR + older, "3": b""}.get(level, ERROR + older)
    assert capfd.readouterr().err.encode() == shown
    assert os.environ.get("TF_CPP_MIN_LOG_LEVEL") == level


INTEGERS = "import tensorflow as tf; tf.transpose(tf.zeros((2, 2), tf.int64))"
RUN = "    from keras_vitbert.runs.machine import open_machine\nopen_machine()"


@pytest.mark.slow  # each loads TensorFlow
@pytest.mark.parametrize(
    "program",
    [
        f"command_line.load_tensorflow()\n{INTEGERS}",
        f"with command_line.quiet_loading():\n{RUN}\n{INTEGERS}",
        "from keras_vitbert import GradientMask",
    ],
)
def test_loading_tensorflow_shows_no_lines_that_nobody_can_act_on(program):
    program = f"from pipelines import command_line\n{program}"
    own = {"TF_CPP_MIN_LOG_LEVEL", "CUDA_VISIBLE_DEVICES"}
    environment = {name: value for name, value in os.environ.items() if name not in own}
    environment["TF_ENABLE_ONEDNN_OPTS"] = "1"  # as by default on some processors
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert [x for x in done.stderr.splitlines() if not x.startswith("loading ")] == []


def test_help_of_the_preparation_answers_without_anything_heavy():
    program = (
        "import contextlib, importlib, sys\n"
        "for name in 'books imagenet manifest sample text_examples vocabulary wikipedia'.split():\n"
        "    module = importlib.import_module(f'pipelines.{name}')\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        module.main(['--help'])\n"
        "    assert not {'tensorflow', 'keras', 'apache_beam'} & set(sys.modules), name\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--duplication: " in done.stdout, done.stderr

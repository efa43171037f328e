"""What becomes of what is written to descriptor 2 of a program, however that ends."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from pipelines import command_line

ROOT = pathlib.Path(command_line.__file__).parents[1]
NOISE = [
    "I0000 00:00:1764201253.123456 123 port.cc:153] oneDNN custom operations are on.",
    "E0000 00:00:1764201253.123456 123 util.cc:131] oneDNN supports DT_INT64 only on platforms",
    "E0000 00:00:1764201253.123456 123 util.cc:131] oneDNN supports DT_INT32 only on platforms",
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "2026-11-27 00:00:00.123456: I tensorflow/core/util/port.cc:153] a note",
]
JPEG = [
    "Corrupt JPEG data: 2 extraneous bytes before marker 0xd9",
    "E0000 00:00:1764201253.123456 123 jpeg_mem.cc:327] Premature end of JPEG data.",
]
REAL = [
    "E0000 00:00:1764201253.123456 123 stream.cc:1] CUDA_ERROR_OUT_OF_MEMORY: out of memory",
    "W0000 00:00:1764201253.123456 123 loader.cc:1] something else is wrong",
    "terminate called after throwing an instance of 'std::bad_alloc'",
    "\N{SNOWMAN}",
]
PROGRAM = """
import os, signal, subprocess, sys, time
from pipelines import command_line
def write(*lines):
    for line in lines:
        os.write(2, line.encode() + b"\\n")
def main(argv):
    write(*argv[1:])
    exec(argv[0])
sys.exit(command_line.run(main))
"""


def call(action, lines=(), where=""):
    """A program that writes lines and then does something: (status, lines on stderr)."""
    shell = f'"$0" -c "$@" {where}'
    command = ["bash", "-c", shell, sys.executable, PROGRAM, action, *lines]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr.splitlines()


def test_noise_alone_is_dropped():
    status, lines = call("pass", [*NOISE, *REAL])
    assert (status, lines) == (0, REAL)
    assert call("pass", [*NOISE, *JPEG, "--debug"]) == (0, [*NOISE, *JPEG])


def test_damaged_images_are_told_in_one_line():
    status, lines = call("pass", [*JPEG, *JPEG])
    assert status == 0 and lines == ["4 warnings of damaged JPEG images"]


@pytest.mark.parametrize(
    ("action", "status", "last"),
    [
        ("raise ValueError('fix it')", 2, "error: fix it"),
        ("os.kill(os.getpid(), signal.SIGTERM)", 75, "stopped: by SIGTERM; run the same command "),
        ("os.write(1, b'x'); sys.exit(0)", 0, REAL[-1]),
        ("subprocess.run('echo child >&2', shell=True)", 0, "child"),
        ("os.fork() or (write('child'), os._exit(0)); os.wait()", 0, "child"),
        ("os.write(2, b'no end')", 0, "no end"),
        ("print('of Python', file=sys.stderr); time.sleep(0.1)", 0, None),
    ],
)
def test_ends_that_are_expected_show_what_is_real(action, status, last):
    found, lines = call(action, [*NOISE, *REAL])
    assert found == status
    assert all(line in lines for line in REAL) and not set(NOISE) & set(lines)
    assert "of Python" in lines if last is None else lines[-1].startswith(last)


@pytest.mark.parametrize(
    ("action", "status", "shown"),
    [
        ("os.abort()", -signal.SIGABRT, ""),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
        ("os._exit(3)", 3, ""),
        ("raise RuntimeError('a bug')", 1, "RuntimeError: a bug"),
        (
            "import faulthandler; faulthandler.enable()\n"
            "command_line.stderr_filter.settle(); faulthandler._sigsegv()",
            -signal.SIGSEGV,
            "Fatal Python error: Segmentation fault",
        ),
        (
            "with command_line.quiet_loading(): write('while it loads'); os.abort()",
            -signal.SIGABRT,
            "while it loads",
        ),
    ],
)
def test_a_crash_shows_all_that_was_held_back(action, status, shown):
    command = [sys.executable, "-c", PROGRAM, action, *NOISE, *REAL]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == status
    assert all(line in done.stderr for line in [*NOISE, *REAL])
    assert shown in done.stderr


def test_a_process_that_stays_behind_is_not_waited_for():
    late = "subprocess.Popen('sleep 0.5; echo late >&2', shell=True); write('now')"
    reads, writes = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, late], cwd=ROOT, stderr=writes)
    os.close(writes)
    assert process.wait(timeout=60) == 0
    with os.fdopen(reads) as file:
        assert file.read().splitlines() == ["now", "late"]


@pytest.mark.parametrize("where", ["2>&-", "2> /dev/full", ">&- 2>/dev/null", "<&- >&- 2>&-"])
def test_where_stderr_or_stdout_is_closed_or_full(where):
    action = (
        "command_line.say('x'); os.system('echo x >&2')\n"
        "with command_line.quiet_loading(): sys.stderr.write('x')\n"
        "assert open(os.devnull).fileno() != 2"  # libraries write to 2, whatever that is
    )
    assert call(action, (), where)[0] == 0


def test_a_ctrl_c_reaches_the_command_alone():
    """The filter is of its process group, and shows what comes after the signal.

    The signal comes while the filter still starts.
    """
    slow = "import os, time; os.register_at_fork(after_in_child=lambda: time.sleep(0.3))"
    action = "signal.signal(signal.SIGINT, lambda *_: None); os.kill(0, signal.SIGINT); write('on')"
    command = [sys.executable, "-c", slow + PROGRAM, action]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, start_new_session=True
    )
    assert (done.returncode, done.stderr) == (0, "on\n")

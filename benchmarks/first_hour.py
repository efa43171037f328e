"""Seconds to the first line and to the first step of a command, and its longest silence.

    python -m benchmarks.first_hour [--terminal] [--runs=1] -- -m keras_vitbert.pretrain ...
    PYTHONPATH=OTHER_CHECKOUT python benchmarks/first_hour.py -- -m keras_vitbert.pretrain ...

This Python runs the command. Its stdout and stderr are a pipe, or with --terminal a
pseudo-terminal. `{run}` in an argument is the run's number, for folders that must be new.
The first step is the first output that shows one: `step N of M` with N above 0, or a bar of Keras.
"""

import argparse
import os
import pty
import re
import select
import statistics
import subprocess
import sys
import time

_STEP = re.compile(
    rb"step [1-9][\d,]* of |^\d+/\d+ - |[1-9]\d*/\d+ .*(step|ETA)|\d+ms/step", re.MULTILINE
)


def watch(command, terminal, to_step=False):
    """Runs a command.

    Args:
        command: list of str.
        terminal: bool, whether it writes to a pseudo-terminal.
        to_step: bool, whether it is killed once it has shown a step.

    Returns:
        (exit status, seconds, seconds to the first output, seconds to the first step, the longest
        silence in seconds, what came before that silence).
    """
    reads, writes = pty.openpty() if terminal else os.pipe()
    began = last = time.monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=writes, stderr=writes, close_fds=True
    )
    os.close(writes)
    first = step = None
    silence, before, tail = 0.0, "", b""
    while True:
        select.select([reads], [], [])
        try:
            block = os.read(reads, 1 << 16)
        except OSError:  # the pseudo-terminal is closed
            block = b""
        now = time.monotonic()
        if now - last > silence:
            silence, before = now - last, tail.decode(errors="replace").strip()[-70:]
        if not block:
            break
        last, tail = now, (tail + block)[-4096:]
        if first is None:
            first = now - began
        if step is None and _STEP.search(tail):
            step = now - began
            if to_step:
                process.kill()
    os.close(reads)
    return process.wait(), time.monotonic() - began, first, step, silence, before


def main():
    layout = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--terminal", action="store_true")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    rows = []
    for run in range(arguments.runs):
        command = [sys.executable, *(part.replace("{run}", str(run)) for part in arguments.command)]
        status, seconds, first, step, silence, before = watch(command, arguments.terminal)
        rows.append((seconds, first or seconds, step or seconds, silence))
        print(
            f"status {status}: {seconds:.1f} s; first output {rows[-1][1]:.1f} s, first step "
            f"{rows[-1][2]:.1f} s, longest silence {silence:.1f} s after {before!r}",
            flush=True,
        )
    if len(rows) > 1:
        names = ("all", "first output", "first step", "longest silence")
        medians = (statistics.median(column) for column in zip(*rows, strict=True))
        print("medians:", ", ".join(f"{n} {m:.1f} s" for n, m in zip(names, medians, strict=True)))


if __name__ == "__main__":
    main()

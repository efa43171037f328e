"""Runs the table of bad input, and counts the rows that do not end as they should.

    python -m benchmarks.bad_input [--only=TEXT]

The rows are those of `tests/bad_input`. It prints how many rows there are, how many of them go
wrong, how many of those show a traceback, and the row that takes longest. `--only` runs the rows
that contain a text.
"""

import argparse
import contextlib
import importlib
import os
import sys
import tempfile
from unittest import mock

from pipelines.command_line import load_tensorflow
from tests.bad_input import places, table
from tpu import addresses


def main():
    """Runs the rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="run the rows that hold this text")
    arguments = parser.parse_args()
    lines = [line for line in table.ROWS if arguments.only in line]
    outcomes = {}
    preload()  # or the first row would take as long as the imports
    with tempfile.TemporaryDirectory() as scratch, captured() as (read, out):
        folder = places.write(os.path.join(scratch, "input"))
        with mock.patch.dict(os.environ, table.ALONE), mock.patch.object(addresses, "CHIPS", ()):
            for line in lines:
                outcomes[line] = table.run(line, table.ROWS[line], folder, read)
                if outcomes[line].problem:
                    print(outcomes[line].problem[:2000], file=out, flush=True)
    problems = [outcome.problem for outcome in outcomes.values() if outcome.problem]
    longest = max(outcomes, key=lambda line: outcomes[line].seconds)
    seconds = [outcome.seconds for outcome in outcomes.values()]
    print(
        f"{len(lines)} rows, {len(problems)} wrong, "
        f"{sum('Traceback' in problem for problem in problems)} tracebacks, "
        f"{sum(seconds):.1f} s, the longest {max(seconds):.1f} s: {longest[:100]}"
    )
    return 1 if problems else 0


def preload():
    """Imports what the commands import."""
    load_tensorflow()
    for name in ("pretraining.run", "fine_tuning.search", "serving.predicting", "hub.presets"):
        importlib.import_module(f"keras_vitbert.{name}")


@contextlib.contextmanager
def captured():
    """Yields a callable that returns what was written to stdout and stderr, and the true stdout."""
    true = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:

        def read():
            sys.stdout.flush()
            sys.stderr.flush()
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
                file.seek(0)
                file.truncate()
            return texts

        for number, file in ((1, out), (2, err)):
            os.dup2(file.fileno(), number)
        try:
            with os.fdopen(os.dup(true[0]), "w") as shown:
                yield read, shown
        finally:
            for number, kept in ((1, true[0]), (2, true[1])):
                os.dup2(kept, number)
                os.close(kept)


if __name__ == "__main__":
    sys.exit(main())

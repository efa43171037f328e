"""The table of bad input: a command line, and what its one line on stderr says.

A line is written as for a shell, without `python -m`; variables of the environment may precede
it. It runs in the folder that `places.py` makes. Each of `ROWS` ends with status 2 and one line that
begins with `error: `; nothing is printed, and the folder stays as it is. New rows go to the
command's module:

| | |
| --- | --- |
| `configs.py` | `--config` and `--config.KEY=VALUE` of `pretrain` and `finetune` |
| `commands.py` | the other flags, files and models of the commands of `keras_vitbert` |
| `jobs.py` | `python -m pipelines.*` |
| `devices.py` | `--tpu`, `TF_CONFIG`, `aot`, `tpu.worker` |
"""

import contextlib
import dataclasses
import importlib
import json
import os
import pathlib
import re
import shlex
import shutil
import sys
import time
from unittest import mock

from pipelines import command_line
from tests.bad_input import commands, configs, devices, jobs
from tests.said import without_status

ROWS = {**configs.ROWS, **commands.ROWS, **jobs.ROWS, **devices.ROWS}
# A machine that trains alone, outside Google Cloud.
ALONE = {"TF_CONFIG": "", "GCE_METADATA_HOST": "localhost:1", "KERAS_BACKEND": "tensorflow"}
# What may precede the line of the error, and only tells how far the command came.
_PROGRESS = r"^waiting for |^--quick: |^of \d+ steps: |: \d+ shards? for |looking for|^sample: |^sample data in |the other rows are never trained$|; assuming [\d,]+ \(|so texts (are lower-cased|keep their case)|images of \d+ classes|jpeg_mem|JPEG library|oneDNN supports"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        status: int, or the exception that left it.
        problem: str, what is not as it should be; empty if all is.
        seconds: float.
    """

    status: object
    problem: str
    seconds: float


def run(line, phrase, folder, read):
    """Runs a row.

    Args:
        line: str, a key of `ROWS`.
        phrase: str, a pattern in its message; or a pair of that and of `{file: content}`, files
            below `folder` that have another content meanwhile: bytes, or changes of JSON by
            dotted keys.
        folder: path of what `places.write` made.
        read: callable that returns what was written to stdout and stderr since its last call.

    Returns:
        `Outcome`.
    """
    phrase, changes = (phrase, {}) if isinstance(phrase, str) else phrase
    words = shlex.split(line)
    count = next(n for n, word in enumerate(words) if "=" not in word)
    environment = dict(word.split("=", 1) for word in words[:count])
    module = importlib.import_module(words[count])
    with (
        _changed(pathlib.Path(folder), changes),
        mock.patch.dict(os.environ, environment),
        mock.patch.object(sys, "dont_write_bytecode", True),  # of config files
    ):
        before = files_below(folder)
        with contextlib.chdir(folder):
            read()
            began = time.monotonic()
            try:
                status = command_line.run(module.main, words[count + 1 :])
            except BaseException as error:
                status = repr(error)
            seconds = time.monotonic() - began
            shutil.rmtree("x.progress", ignore_errors=True)
        out, err = read()
        after = files_below(folder)
        *others, last = without_status(err) or [""]
        problems = {
            f"status {status}": status != command_line.EXIT_BAD_INPUT,
            f"no {phrase}": not re.search(phrase, last),
            "no error first": not last.startswith("error: "),
            "other lines": not all(re.search(_PROGRESS, other) for other in others),
            "a traceback": "Traceback" in err + out,
            "it prints": bool(out),
            f"files are changed: {_differing(before, after)}": after != before,
        }
    wrong = ", ".join(problem for problem, is_so in problems.items() if is_so)
    return Outcome(status, f"{line}: {wrong}\n{out}{err}" if wrong else "", seconds)


@contextlib.contextmanager
def _changed(folder, changes):
    """Files with another content while the block runs."""
    with contextlib.ExitStack() as stack:
        for name, content in changes.items():
            path = folder / name
            old = path.read_bytes() if path.exists() else None
            if isinstance(content, dict):
                content = json.dumps(_with(json.loads(old), content)).encode()
            path.write_bytes(content)
            stack.callback(path.unlink if old is None else lambda p=path, o=old: p.write_bytes(o))
        yield


def _with(content, changes):
    for path, value in changes.items():
        *sections, key = path.split(".")
        part = content
        for section in sections:
            part = part[section]
        part[key] = value
    return content


def _differing(before, after):
    return sorted(set(before.items()) ^ set(after.items()))


def files_below(folder):
    """Path to (size, time of change) of all that is below a folder; jobs may keep their progress."""
    found = {}
    for place, _, names in os.walk(folder):
        for path in (os.path.join(place, name) for name in names):
            if ".progress" not in path:
                known = os.lstat(path)
                found[path] = known.st_size, known.st_mtime_ns
    return found

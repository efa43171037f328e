"""What users get wrong: status 2, one line that names the culprit, and no file touched."""

import contextlib
import functools
import importlib
import json
import shlex
import shutil
import sys

import pytest

from pipelines import command_line
from tests.bad_input import places
from tests.bad_input.rows import DAMAGED, ROWS
from tests.keras_vitbert.bad_calls import assert_refused
from tpu import addresses

# A machine that trains alone, outside Google Cloud.
ALONE = {"TF_CONFIG": "", "GCE_METADATA_HOST": "localhost:1", "KERAS_BACKEND": "tensorflow"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return places.write(tmp_path_factory.mktemp("bad") / "input")


@pytest.fixture
def check(folder, monkeypatch, capfd):
    """`check(line, culprit)` runs a command line in the folder."""
    monkeypatch.setattr(addresses, "CHIPS", ())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # of config files

    def check(line, culprit):
        words = shlex.split(line)
        count = next(n for n, word in enumerate(words) if "=" not in word)
        for name, value in (ALONE | dict(word.split("=", 1) for word in words[:count])).items():
            monkeypatch.setenv(name, value)
        module = importlib.import_module(words[count])

        def call():
            with contextlib.chdir(folder):
                status = command_line.run(module.main, words[count + 1 :])
            for path in folder.glob("*.progress"):  # jobs may keep it
                shutil.rmtree(path)
            return status

        assert_refused(call, capfd, folder, culprit)

    return check


@pytest.mark.parametrize(("line", "culprit"), ROWS)
def test_command_lines(check, line, culprit):
    check(line, culprit)


@pytest.mark.parametrize(("line", "file", "content", "culprit"), DAMAGED)
def test_damaged_files(check, folder, line, file, content, culprit):
    path = folder / file
    old = path.read_bytes() if path.exists() else None
    path.write_bytes(content if isinstance(content, bytes) else changed(old, content))
    try:
        check(line, culprit)
    finally:
        path.unlink() if old is None else path.write_bytes(old)


def changed(content, changes):
    """JSON with other values, by dotted keys."""
    content = json.loads(content)
    for path, value in changes.items():
        *sections, key = path.split(".")
        functools.reduce(lambda part, section: part[section], sections, content)[key] = value
    return json.dumps(content).encode()

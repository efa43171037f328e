"""Whether a command line would be taken: its flags, config keys and files, without running it."""

import contextlib
import functools
import importlib
import importlib.util
import os
import re
import tomllib
from unittest import mock

import keras_vitbert.experiments.flags
from keras_vitbert.configs import fine_tuning
from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.sections import flatten
from keras_vitbert.experiments.fine_tuning import tasks
from pipelines import command_line, files
from tests.documents.markdown import ROOT

# What nobody parses here: it asks or starts a server, needs an account or a key, changes the shell
# or git, or is run by CI as it is.
UNCHECKED = {
    *("bash", "curl", "docker", "export", "gcloud", "lint-imports", "npm", "pip", "pre-commit"),
    *("pyright", "pytest", "ruff", "shellcheck", "ssh-add", "tar", "tensorboard"),
}
UNCHECKED_MODULES = {"mkdocs", "pip", "pytest", "tests.golden", "venv"}
_CODE = (".py", ".sh")
# Called behind the checks of the flags, and before anything is done.
_STOPS = ("read_own", "load_tensorflow", "quiet_loading", "check_installed", "serve")


class Wrong(Exception):
    """A command line that would be refused."""


class _Parsed(BaseException):
    """The flags are parsed: the command would begin its work."""


def check(words):
    """Checks a command.

    Args:
        words: list of str, as a shell would pass them; `...` stands for what the reader fills in.

    Raises:
        Wrong: it would be refused, or nothing here knows the program.
    """
    program, *arguments = words
    program = program.removeprefix(".venv/bin/")
    for path in re.findall(r"(?:^| )((?:tests|tpu/vm|docs|\.ci)/[\w/.]+)", " ".join(words)):
        if not (ROOT / path).exists():
            raise Wrong(f"there is no file {path}")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extras in re.findall(r"\.\[([\w,]+)\]", " ".join(arguments)):
        for extra in set(extras.split(",")) - set(project["optional-dependencies"]):
            raise Wrong(f"pyproject.toml has no extra {extra}")
    if program in ("python", "python3") and arguments[0] == "-m":
        check_module(arguments[1], arguments[2:])
    elif re.fullmatch(r"tpu/vm/\w+\.sh", program):
        _check_script(program, arguments)
    elif program == "sbatch":  # its options, a script, and the flags of the run
        [script] = [n for n, word in enumerate(arguments) if word.endswith("slurm.sh")]
        check_module("keras_vitbert.pretrain", arguments[script + 1 :])
    elif program not in UNCHECKED and not program.startswith(("python", ".ci/")):
        raise Wrong(f"nothing here knows how to check {program}")


def check_module(name, arguments):
    """Checks the arguments of `python -m NAME`."""
    package = name.partition(".")[0]
    if package not in ("keras_vitbert", "pipelines", "tpu", "benchmarks"):
        if name not in UNCHECKED_MODULES:
            raise Wrong(f"nothing here knows how to check the module {name}")
    elif importlib.util.find_spec(name) is None:
        raise Wrong(f"there is no module {name}")
    elif package != "benchmarks" and arguments != ["..."]:
        try:
            _parse_command(name, [word for word in arguments if word != "..."])
        except ValueError as error:
            if not ("..." in arguments and re.search("is missing|lacks data", str(error))):
                raise Wrong(str(error)) from error


def is_flag(text):
    """Whether there is a flag that the prose names, such as `--sweep` or `--config.steps=300`."""
    name = text.split("=")[0].removeprefix("--")
    key = name.removeprefix("config.")
    if name != key:
        return key.isupper() or key in config_keys()
    return bool({name, name.removeprefix("no")} & words_of_the_code())


@functools.cache
def config_keys():
    """The keys of the configs of pre-training and of fine-tuning."""
    names = (("pets", "images"), ("rte", "text"), ("pets,rte", "both"))
    tasks = [fine_tuning.get_config(*task) for task in names]
    return frozenset(key for config in (load_config("paper"), *tasks) for key in flatten(config))


@functools.cache
def words_of_the_code():
    """All names in the code and in the scripts; each flag's is one of them."""
    folders = (ROOT / name for name in ("keras_vitbert", "pipelines", "tpu", "benchmarks"))
    files = (path for folder in folders for path in folder.rglob("*") if path.suffix in _CODE)
    return frozenset(word for path in files for word in re.findall(r"\w+", path.read_text()))


def _parse_command(name, arguments):
    """Runs a command up to where it would load TensorFlow."""
    module = importlib.import_module(name)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ))  # `--backend` sets Keras' variable
        for owner in (module, command_line, files, tasks):
            for stop in filter(functools.partial(hasattr, owner), _STOPS):
                stack.enter_context(mock.patch.object(owner, stop, side_effect=_Parsed))
        for owner in (module, keras_vitbert.experiments.flags):
            place = mock.patch.object(owner, "require_place", create=True)  # of runs to be made
            stack.enter_context(place)
        stack.enter_context(contextlib.suppress(_Parsed))
        module.main(arguments)
        raise AssertionError(f"{name} did not stop: it calls none of {', '.join(_STOPS)}")


def _check_script(path, arguments):
    """Checks the flags of a script of `tpu/vm`, and the command that it starts."""
    known = _script_flags(ROOT / path)
    for number, word in enumerate(arguments):
        if word == "--":
            assert arguments[number + 1] == "-m"
            check_module(arguments[number + 2], arguments[number + 3 :])
            return
        name, equals, _ = word.removeprefix("--").partition("=")
        if name + equals not in known:
            raise Wrong(f"{path} takes no {word}")


def _script_flags(path):
    """The flags that a script names; `FLAG=` takes a value."""
    found = re.search(r'^parse_flags "([^"]*)"', path.read_text(), re.MULTILINE)
    return found[1].split() if found else []

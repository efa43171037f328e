"""Says whether training can run on this machine, and what to install if it cannot.

    python -m keras_vitbert.doctor

It prints the installed versions, the devices, and the free memory and disk space. It works even if
TensorFlow cannot be imported.
Exit status: 0 training can run, 2 it cannot; the last line says why.
"""

import importlib.metadata
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys

import keras_vitbert
from pipelines.command_line import run
from pipelines.flags import parse_flags
from pipelines.memory import available_memory

_DISTRIBUTION = "keras-vitbert"
_INSTALL = 'pip install --upgrade -e ".'
_SECONDS = 300  # for the imports; off a TPU machine, importing tensorflow-tpu never ends

# TensorFlow may abort the process that imports it, so another process imports it.
_TRIAL = """
import json
import tensorflow as tf
from tensorflow.python.client import device_lib
found = [(d.name, d.memory_limit, d.physical_device_desc) for d in device_lib.list_local_devices()]
float(tf.reduce_sum(tf.ones((8, 8)) @ tf.ones((8, 8))))
import keras_vitbert.fine_tuning.trials
import keras_vitbert.pretraining.run
print(json.dumps(found))
"""


def main(argv):
    """Runs the command.

    Args:
        argv: list of str, without the program's name.
    """
    from absl import flags

    parse_flags(flags.FlagValues(), argv, __doc__)
    print(
        f"keras_vitbert {keras_vitbert.__version__}, Python {platform.python_version()}, "
        f"{sys.platform} {platform.machine()}",
        flush=True,
    )
    problems = [*check_python(), *check_packages()]
    warn_of_tensorboard()
    _print_space()
    devices, problem = try_imports()
    for name, memory, description in devices:
        device = name.removeprefix("/device:")
        limit = f", {memory / 2**30:.1f} GiB" if "CPU" not in device else ""
        print(f"device {device}{limit} {description}".rstrip())
    if problem:
        problems.append(problem)
    if problems:
        raise ValueError(f"training cannot run: {problems[0]}")
    print("training can run")


def check_python():
    """Problems with the Python that this runs in: list of str."""
    wanted = _metadata("Requires-Python")
    if not wanted:
        return []
    from packaging.specifiers import SpecifierSet

    if SpecifierSet(wanted).contains(platform.python_version()):
        return []
    return [f"Python {platform.python_version()} is not {wanted}; make an environment with another"]


def check_packages():
    """Prints the packages that are needed, then the extras; returns problems: list of str."""
    try:
        requirements = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        print(f"{_DISTRIBUTION} is not installed; run: pip install -e . in its checkout")
        return []
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return [f'packaging is missing; run: {_INSTALL}"']
    problems, extras = [], {}
    for requirement in map(Requirement, requirements):
        is_core = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if is_core:
            found = _version(requirement.name)
            fits = found and requirement.specifier.contains(found, prereleases=True)
            wanted = f"{requirement.name}{requirement.specifier}"
            remedy = (
                "" if fits else f'  wanted {requirement.specifier}; run: pip install "{wanted}"'
            )
            print(f"  {requirement.name:24} {found or 'missing':12}{remedy}".rstrip())
            if not found and requirement.name != "tensorflow-text":
                problems.append(f'{requirement.name} is missing; run: {_INSTALL}"')
            continue
        for extra in _metadata_all("Provides-Extra"):
            if requirement.marker.evaluate({"extra": extra}):
                extras.setdefault(extra, []).append(requirement.name)
    print(f"  {'keras-hub':24} {_version('keras-hub') or 'missing'}")  # keras-nlp brings it
    for extra, names in extras.items():
        missing = [name for name in names if not _version(name)]
        if missing:
            print(f'  [{extra}]: no {", ".join(missing)}; for it run: {_INSTALL}[{extra}]"')
        else:
            print(f"  [{extra}]: {', '.join(f'{name} {_version(name)}' for name in names)}")
    if not _version("tensorflow-text"):
        print(
            "  without tensorflow-text, tokenizers splits texts into the same tokens; learning a "
            "vocabulary and exporting a model that takes text need it"
        )
    return problems


def warn_of_tensorboard():
    """Says if TensorBoard cannot start, which does not stop training."""
    board, setuptools = _version("tensorboard"), _version("setuptools")
    if board and setuptools and _release(board) < (2, 21) and _release(setuptools) >= (82,):
        print(
            f"  tensorboard {board} cannot start beside setuptools {setuptools}; run: "
            'pip install "setuptools<82"'
        )


def try_imports():
    """Imports what training needs, in another process, and looks for devices.

    Returns:
        (list of (name, bytes, description), a problem or an empty str).
    """
    variables = {"TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow"}
    path = os.pathsep.join([os.path.dirname(keras_vitbert.__path__[0]), *sys.path])
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TRIAL],
            env={**os.environ, **variables, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return [], (
            f"TensorFlow is not imported after {_SECONDS} s; off a TPU machine tensorflow-tpu "
            "waits for ever: pip uninstall tensorflow-tpu, and install tensorflow"
        )
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1]), ""
    lines = done.stderr.strip().splitlines() or ["no message"]
    reason = lines[-1].strip()[:300]
    if done.returncode < 0:
        reason = f"the process died by {signal.Signals(-done.returncode).name}: {reason}"
    return [], f'it cannot be imported ({reason}); run: {_INSTALL}"'


def _print_space():
    free = available_memory()
    memory = "unknown" if math.isinf(free) else f"{free / 2**30:.1f} GiB"
    disk = shutil.disk_usage(".")
    print(f"free memory {memory}, free disk here {disk.free / 2**30:.1f} GiB", flush=True)


def _version(name):
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _release(version):
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _metadata(key):
    return next(iter(_metadata_all(key)), "")


def _metadata_all(key):
    try:
        return importlib.metadata.metadata(_DISTRIBUTION).get_all(key) or []
    except importlib.metadata.PackageNotFoundError:
        return []


if __name__ == "__main__":
    sys.exit(run(main))

"""The versions of the software that a run's numbers depend on."""

import functools
import importlib.metadata
import os
import platform
import subprocess

import keras
import tensorflow as tf

import keras_vitbert

_CODE = (":/keras_vitbert", ":/pipelines", ":/tpu")  # of the repository
_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"  # chooses kernels, which round differently


def versions() -> dict[str, str]:
    """What results may depend on besides settings and inputs.

    The backend, the versions of packages, the `commit`, and an environment variable that TensorFlow
    reads.
    """
    backend = keras.backend.backend()
    packages = ["keras-hub", "tensorflow-text", "numpy"]
    if backend == "jax":
        packages += ["jax", "jaxlib"]
    return {
        "keras_vitbert": keras_vitbert.__version__,
        "commit": commit() or "none",
        "python": platform.python_version(),
        "backend": backend,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        **{name.replace("-", "_"): _version(name) for name in packages},
        _ONEDNN: os.environ.get(_ONEDNN, "unset"),
    }


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


@functools.cache
def commit() -> str:
    """The commit of the code, with `+` where files differ from it; empty outside of a checkout."""
    try:
        _git("ls-files", "--error-unmatch", __file__)  # not of a checkout around an environment
        changed = _git("status", "--porcelain", "-uno", "--", *_CODE)
        return _git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments):
    found = subprocess.run(
        ["git", *arguments],
        cwd=os.path.dirname(__file__),
        check=True,
        capture_output=True,
        text=True,
    )
    return found.stdout.strip()

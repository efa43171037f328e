"""TensorFlow Text. Some machines have no wheel, so only this module imports it, when needed."""

import importlib
from types import ModuleType


def find(module: str = "tensorflow_text") -> ModuleType | None:
    """TensorFlow Text, or a module in it; None where the package is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def require(what: str, module: str = "tensorflow_text") -> ModuleType:
    """TensorFlow Text, or a module in it; an error says that `what` needs it."""
    if installed := find(module):
        return installed
    import tensorflow as tf

    release = ".".join(tf.__version__.split(".")[:2])
    raise ValueError(
        f"{what} needs tensorflow-text, which has wheels for Linux and for macOS on arm64; "
        f'run: pip install "tensorflow-text=={release}.*"'
    )

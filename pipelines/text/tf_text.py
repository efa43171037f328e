"""TensorFlow Text. Some machines have no wheel, so only this module imports it, when needed."""

import importlib


def find(module="tensorflow_text"):
    """Imports TensorFlow Text, which registers its operations with TensorFlow.

    Args:
        module: str, its name or that of a module in it.

    Returns:
        The module, or None where the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def require(what, module="tensorflow_text"):
    """Imports TensorFlow Text for what cannot be done without it.

    Args:
        what: str, the subject of the message.
        module: str, see `find`.

    Returns:
        The module.

    Raises:
        ValueError: the package is not installed.
    """
    found = find(module)
    if found is None:
        import tensorflow as tf

        release = ".".join(tf.__version__.split(".")[:2])
        raise ValueError(
            f"{what} needs tensorflow-text, which has wheels for Linux and for macOS on arm64; "
            f'run: pip install "tensorflow-text=={release}.*"'
        )
    return found

"""Configs by name: `sample`, `small`, `paper`, `quick` or a file of the user's."""

import importlib.util
import os

from keras_vitbert.configs.pretraining import Pretraining
from pipelines.command_line import meant, one_line

CONFIGS = ("sample", "small", "paper", "quick")


def load_config(name: str) -> Pretraining:
    """Loads a config of pre-training: of `CONFIGS`, or `FILE.py`, optionally followed by `:SIZE`.

    A file defines `get_config()` or `get_config(size)`, which returns a `Pretraining`.
    """
    base, colon, size = name.partition(":")
    path = base
    if base in CONFIGS:
        path = os.path.join(os.path.dirname(__file__), f"{base}.py")
    if not path.endswith(".py") or not os.path.isfile(path):
        known = f"one of {', '.join(CONFIGS)}, or a file FILE.py{meant(base, CONFIGS)}"
        raise ValueError(f"config {name}: must be {known}")
    try:
        spec = importlib.util.spec_from_file_location("config_file", path)
        assert spec is not None and spec.loader is not None  # None only for other extensions
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config(size) if colon else module.get_config()
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # a file may fail in any way
        raise ValueError(f"config {name}: {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(config, Pretraining):
        raise ValueError(f"config {name}: get_config returned {config!r:.40}, no Pretraining")
    return config

"""The `predict.py` of a portable folder as a module, and the tokenizer's files beside it."""

import functools
import importlib.util
import json
import pathlib

import keras_vitbert
from keras_vitbert.trained.portable.character_table import table

TEMPLATES = pathlib.Path(keras_vitbert.__file__).parent / "trained" / "portable" / "templates"

characters = functools.cache(table)


def load_predict(folder):
    """The module, as if it lay in a folder, whose graphs are not run."""
    spec = importlib.util.spec_from_file_location("written_predict", TEMPLATES / "predict.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.HERE, module.HEADS = folder, {"image", "text", "mlm"}
    return module


def write_tokenizer(folder, vocabulary, lower_case):
    """Writes `vocabulary.txt` and `characters.json`."""
    (folder / "vocabulary.txt").write_bytes("".join(f"{t}\n" for t in vocabulary).encode())
    (folder / "characters.json").write_text(json.dumps(characters(lower_case)))

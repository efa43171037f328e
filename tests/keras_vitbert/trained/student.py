"""A student for teachers of other projects: its config, and the facts about its data."""

import pytest

from keras_vitbert.configs import paper
from keras_vitbert.experiments.pretraining.data import Data
from keras_vitbert.experiments.pretraining.teachers import load_teacher
from tests.keras_vitbert.trained.stored_models import FIXTURES

TOKENS = (FIXTURES / "bert" / "vocab.txt").read_text().split()
CLASSES = ["tench", "great white shark", "hen"]


class Texts:
    length = 13


def student_config():
    """A config for the sizes of the stored models."""
    sizes = {"num_classes": 3, "vocabulary_size": len(TOKENS), "image_size": 9, "patch_size": 3}
    values = {f"model.{name}": size for name, size in sizes.items()}
    return paper.get_config("sample").with_values({"dtype": "float32", **values})


def data(**changes):
    """The part of the student's data that teachers are checked against."""
    unused = dict.fromkeys(("images", "image_validation", "text_validation"))
    known = {"texts": Texts(), "vocabulary": TOKENS, "classes": CLASSES}
    return Data(**{**unused, **known, **changes})


def assert_refused(config, kind, path, message, **changes):
    """Asserts that a teacher is refused, in one line that names the flag and the fix."""
    with pytest.raises(ValueError, match=message) as error:
        load_teacher(kind, str(path), config, data(**changes))
    line = str(error.value)
    assert line.startswith(f"{kind}_teacher: {path}") and "\n" not in line

"""A student for teachers of other projects: its config, and the facts about its data."""

from keras_vitbert.configs import paper
from keras_vitbert.experiments.pretraining.data import Data
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

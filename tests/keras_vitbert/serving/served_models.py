"""The words and classes of the models that are served."""

from pipelines.text.wordpiece import SPECIAL_TOKENS

VOCABULARY = [*SPECIAL_TOKENS, "the", "cat", "sat", "##s", ".", "[", "]"]  # the model has one more
CLASSES = ["dog", "été", "cat"]

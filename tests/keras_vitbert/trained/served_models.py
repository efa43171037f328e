"""The vocabulary and classes of the served models."""

from pipelines.text.wordpiece import SPECIAL_TOKENS

VOCABULARY = [*SPECIAL_TOKENS, "the", "cat", "sat", "##s", ".", "[", "]"]  # the model has one more
CLASSES = ["dog", "été", "cat"]

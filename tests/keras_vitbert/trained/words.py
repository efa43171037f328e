"""The vocabulary and classes of the tests of presets."""

from pipelines.text.wordpiece import SPECIAL_TOKENS

VOCABULARY = [*SPECIAL_TOKENS, "the", "fox", "##es", "ran", ".", "[", "]", "mask"]
CLASSES = ["cat", "dog", "fox"]

"""The tokenizer of presets."""

import numpy as np

from keras_vitbert.trained import hub
from tests.keras_vitbert.trained.words import VOCABULARY


def test_the_tokenizer_knows_masks_where_it_is_told_to():
    tokenizer = hub.ViTBertTokenizer(VOCABULARY, special_tokens_in_strings=True)
    assert tokenizer("the [MASK] ran") == [5, 4, 8]
    plain = hub.ViTBertTokenizer(VOCABULARY, sequence_length=6)
    assert np.asarray(plain("the [MASK] ran")).tolist() == [5, 10, 12, 11, 8, 0]
    named = hub.ViTBertTokenizer(VOCABULARY, dtype="string")
    assert named(["The foxes", ""]) == [["the", "fox", "##es"], []]

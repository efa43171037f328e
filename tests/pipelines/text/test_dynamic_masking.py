import collections

import numpy as np
import pytest
import tensorflow as tf

from pipelines.text.dynamic_masking import DynamicMasking
from pipelines.text.masking import Masking
from pipelines.text.wordpiece import CLS, MASK, PAD, SEP, SPECIAL_TOKENS

VOCABULARY = (*SPECIAL_TOKENS, "[unused0]", *"abcdefgh", *(f"##{c}" for c in "abcdefgh"))
LENGTH = 24
ID = {token: index for index, token in enumerate(VOCABULARY)}


class Given:
    """A generator that gives the numbers that TensorFlow's side is given."""

    def __init__(self, random, chosen):
        self._random, self._chosen = random, chosen

    def random(self, size):
        if isinstance(size, tuple):
            return self._random[:, 0].astype(np.float64)
        return self._random[:, 1][self._chosen]

    def integers(self, high, size):
        return (self._random[:, 2][self._chosen] * np.float32(high)).astype(int)


def texts(random, count):
    """Random `[CLS] A [SEP] B [SEP]` with pieces, of every length, and where nothing is special."""
    ids = np.full((count, LENGTH), ID[PAD], np.int32)
    padding_mask = np.zeros((count, LENGTH), np.int32)
    for row in range(count):
        first, second = random.integers(1, 11, 2)
        words = random.integers(ID["[unused0]"] + 1, len(VOCABULARY), first + second)
        tokens = [ID[CLS], *words[:first], ID[SEP], *words[first:], ID[SEP]]
        ids[row, : len(tokens)] = tokens
        padding_mask[row, : len(tokens)] = 1
    candidates = (padding_mask == 1) & (ids != ID[CLS]) & (ids != ID[SEP])
    return ids, padding_mask, candidates


def masked(masking, ids, padding_mask, random):
    batch = masking(tf.constant(ids), tf.constant(padding_mask), tf.constant(random))
    return {name: value.numpy() for name, value in batch.items()}


@pytest.mark.parametrize("whole_word", [False, True])
@pytest.mark.parametrize(("max_predictions", "ratio"), [(1, 0.15), (4, 0.15), (7, 0.5), (30, 0.9)])
def test_it_masks_as_the_writer_does(whole_word, max_predictions, ratio):
    """The same random numbers, given to NumPy's static masking: the same batch."""
    generator = np.random.default_rng(max_predictions)
    ids, padding_mask, candidates = texts(generator, 200)
    random = generator.random((200, 3, LENGTH), np.float32)
    dynamic = DynamicMasking(VOCABULARY, max_predictions, ratio, whole_word)
    found = masked(dynamic, ids, padding_mask, random)

    chosen = np.zeros_like(candidates)
    rows, columns = np.nonzero(found["masked_weights"])
    chosen[rows, found["masked_positions"][rows, columns]] = True
    static = Masking(list(VOCABULARY), max_predictions, ratio, whole_word)
    wanted = static(ids, candidates, Given(random, chosen))
    np.testing.assert_array_equal(found["masked_positions"], wanted["masked_lm_positions"])
    np.testing.assert_array_equal(found["masked_ids"], wanted["masked_lm_ids"])
    np.testing.assert_array_equal(found["masked_weights"], wanted["masked_lm_weights"])
    np.testing.assert_array_equal(found["token_ids"], wanted["input_ids"])
    assert {name: value.dtype for name, value in found.items()} == {
        "token_ids": np.int32,
        "masked_positions": np.int32,
        "masked_ids": np.int32,
        "masked_weights": np.float32,
    }


def test_the_fates_of_masked_tokens():
    """80 % [MASK], 10 % another token, 10 % as it was: 20,000 predictions."""
    ids = np.full((2000, LENGTH), ID["a"], np.int32)
    dynamic = DynamicMasking(VOCABULARY, 10, 0.5)
    random = [dynamic.random_numbers(LENGTH, [0, n]) for n in range(2000)]
    batch = masked(dynamic, ids, np.ones_like(ids), tf.stack(random).numpy())
    predicted = np.take_along_axis(batch["token_ids"], batch["masked_positions"], axis=1)
    counts = collections.Counter(predicted.ravel().tolist())
    assert abs(counts[ID[MASK]] / 20_000 - 0.8) < 0.012  # four standard deviations
    others = set(VOCABULARY) - {*SPECIAL_TOKENS, "[unused0]"}
    assert {VOCABULARY[n] for n in counts} == others | {MASK}
    assert abs(counts[ID["a"]] / 20_000 - (0.1 + 0.1 / len(others))) < 0.009
    places = collections.Counter(batch["masked_positions"].ravel().tolist())
    assert len(places) == LENGTH and max(places.values()) < 1.15 * 20_000 / LENGTH
    untouched = np.ones_like(ids, bool)
    np.put_along_axis(untouched, batch["masked_positions"], False, axis=1)
    assert (batch["token_ids"][untouched] == ID["a"]).all()


def test_the_numbers_depend_on_the_key():
    def numbers(*key):
        return DynamicMasking.random_numbers(9, tf.constant(key, tf.int64)).numpy()

    np.testing.assert_array_equal(numbers(1, 2), numbers(1, 2))
    assert len({numbers(*key).tobytes() for key in ((1, 2), (2, 1), (1, 3), (1, 2**40))}) == 4

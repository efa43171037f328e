import numpy as np
import pytest
import tensorflow as tf

from pipelines.tasks.labelled_texts import LabelledTexts
from pipelines.text.tokenization import TextEncoder

WORDS = ["the", "cat", "sat", "on", "mat", "##s", "##ting", "un", "##believ", ".", ",", "[", "]"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "mask", *WORDS]
CLS, SEP, MASK = 2, 3, 4


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder(VOCABULARY, 12)


@pytest.fixture(scope="module")
def served(encoder):
    """As in a served signature: both segments there, and a tensor says whether B is meant."""
    return tf.function(lambda first, second, pair: encoder(first, second, pair))


def ids(*tokens):
    return [VOCABULARY.index(token) for token in tokens]


def random_texts(rng, count):
    words = ["the", "Cats", "sitting", "ON", "mats", ".", "é", "unbelievs", ""]
    return [" ".join(rng.choice(words, rng.integers(0, 12))) for _ in range(count)]


@pytest.mark.parametrize("paired", [False, True])
def test_texts_are_encoded_as_in_training(served, paired):
    rng = np.random.default_rng(0)
    first, second = random_texts(rng, 60), random_texts(rng, 60)
    expected = LabelledTexts.encode(
        first, second if paired else None, np.zeros(60), VOCABULARY, (12,)
    )
    arguments = (*map(tf.constant, (first, second)), tf.constant(paired))
    found = {name: value.numpy() for name, value in served(*arguments).items()}
    lengths = found["padding_mask"].sum(axis=1)
    np.testing.assert_array_equal(lengths, expected.lengths)
    assert lengths.max() == 12 and found["token_ids"].shape == (60, 12)
    assert len(set(lengths)) > 4
    for row, length in enumerate(lengths):
        wanted = expected.tokens[expected.starts[row] : expected.starts[row + 1]]
        np.testing.assert_array_equal(found["token_ids"][row, :length], wanted)
        assert not found["token_ids"][row, length:].any()
        first_length = expected.first_lengths[row]
        np.testing.assert_array_equal(
            found["segment_ids"][row],
            (np.arange(12) >= first_length) & (np.arange(12) < length),
        )


def test_one_segment_needs_no_second(encoder):
    found = encoder(tf.constant(["the cat", ""]))
    assert found["token_ids"].numpy().tolist() == [[CLS, *ids("the", "cat"), SEP], [CLS, SEP, 0, 0]]
    assert not found["segment_ids"].numpy().any()


def test_masks_are_tokens_where_they_are_meant(encoder):
    texts = tf.constant(["the [MASK] sat", "[MASK][MASK]", "un[MASK].", "", "[mask]"])
    assert encoder.tokenize(texts, masks=True).to_list() == [
        [*ids("the"), MASK, *ids("sat")],
        [MASK, MASK],
        [*ids("un"), MASK, *ids(".")],
        [],
        ids("[", "mask", "]"),
    ]
    assert encoder.tokenize(texts)[0].numpy().tolist() == ids("the", "[", "mask", "]", "sat")
    assert encoder(texts, masks=True)["token_ids"][1].numpy().tolist()[:4] == [CLS, MASK, MASK, SEP]

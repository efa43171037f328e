import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.text import bert_examples as pairing
from pipelines.text.bert_examples import IS_NEXT, IS_RANDOM, PAIR, make_pairs
from tests.pipelines.text.token_lists import tokenized

# The tokens of all documents are different and consecutive: an id tells its place.
LENGTHS = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=12), min_size=2, max_size=6)


def numbered(lengths):
    ids = itertools.count()
    return tokenized(
        [[list(itertools.islice(ids, length)) for length in document] for document in lengths]
    )


def places(documents):
    """The document and the sentence of each token."""
    sentence = np.repeat(np.arange(len(documents.sentences) - 1), np.diff(documents.sentences))
    return np.searchsorted(documents.documents, sentence, side="right") - 1, sentence


@settings(max_examples=50, deadline=None)
@given(LENGTHS, st.integers(2, 60), st.sampled_from([0.0, 0.5]), st.integers(0, 2**32))
def test_every_sentence_is_used_once(lengths, room, short, seed):
    """Sentences that a random second segment displaced are put back."""
    documents = numbered(lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairing, "_truncate", lambda pairs, room, random: pairs)
        pairs = make_pairs(documents, room, short, np.random.default_rng(seed))
    _, sentence = places(documents)
    used = []
    starts = set(documents.sentences.tolist())
    for first, first_length, second, second_length, label in pairs.tolist():
        assert {first, first + first_length, second, second + second_length} <= starts
        used += range(first, first + first_length)
        if label == IS_NEXT:
            assert second == first + first_length
            used += range(second, second + second_length)
        elif not short:  # the last sentence of the random segment was needed
            last = documents.sentences[sentence[second + second_length - 1]]
            assert last == second or first_length + last - second < room
    assert used == documents.tokens.tolist()


@pytest.fixture(scope="module")
def many():
    random = np.random.default_rng(0)
    return numbered([random.integers(1, 60, 50).tolist() for _ in range(40)])


def test_shares(many):
    rngs = map(np.random.default_rng, range(8))
    pairs = np.concatenate([make_pairs(many, 61, 0.1, rng) for rng in rngs])
    assert abs(pairs["label"].mean() - 0.5) < 4 * 0.5 / len(pairs) ** 0.5
    assert (pairs["first_length"] + pairs["second_length"] == 61).mean() > 0.7


def test_random_second_segments_come_from_everywhere(many):
    """Every document follows every other one, and they begin with any of its sentences."""
    document, sentence = places(many)
    followed, first_sentences = set(), set()
    for seed in range(80):
        pairs = make_pairs(many, 200, 0.5, np.random.default_rng(seed))
        is_random = pairs["label"] == IS_RANDOM
        homes = document[pairs["first"][is_random]], document[pairs["second"][is_random]]
        followed |= set(zip(*(home.tolist() for home in homes), strict=True))
        starts = pairs["second"][is_random]
        first_sentences |= set(sentence[starts].tolist())
    assert len(followed) == 40 * 39 and all(a != b for a, b in followed)
    assert len(first_sentences) > 0.8 * 40 * 50


@pytest.mark.parametrize(
    ("lengths", "room", "kept"),
    [
        ((10, 10), 20, (10, 10)),
        ((30, 5), 20, (15, 5)),
        ((5, 30), 20, (5, 15)),
        ((30, 30), 21, (11, 10)),
    ],
)
def test_truncation(lengths, room, kept):
    pairs = np.array([(100, lengths[0], 500, lengths[1], 0)] * 50, PAIR)
    cut = pairing._truncate(pairs, room, np.random.default_rng(0))
    assert set(cut["first_length"]) == {kept[0]} and set(cut["second_length"]) == {kept[1]}
    for start, begin, length, left in (
        (cut["first"], 100, lengths[0], kept[0]),
        (cut["second"], 500, lengths[1], kept[1]),
    ):
        assert start.min() >= begin and (start + left).max() <= begin + length
        assert len(set(start)) > 1 or length == left

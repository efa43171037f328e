import collections

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.text.masking import Masking
from pipelines.text.wordpiece import MASK, SPECIAL_TOKENS

VOCABULARY = (*SPECIAL_TOKENS, "[unused0]", *"abcde", *(f"##{letter}" for letter in "fghi"))
FIRST_WORD = 6
IDS = st.integers(FIRST_WORD, len(VOCABULARY) - 1)
MASK_ID = SPECIAL_TOKENS.index(MASK)


def batch(segments):
    """Input ids and mask of pairs of segments, `[CLS] A [SEP] B [SEP]` and padding."""
    length = max(len(a) + len(b) for a, b in segments) + 4
    ids = np.zeros((len(segments), length), np.int32)
    input_mask = np.zeros_like(ids)
    for row, (a, b) in enumerate(segments):
        tokens = [2, *a, 3, *b, 3]
        ids[row, : len(tokens)] = tokens
        input_mask[row, : len(tokens)] = 1
    return ids, input_mask


def by_the_rule(ids, input_mask, numbers, masking):
    """The chosen positions of one example, one word after another, as the docstring says."""
    words = []
    candidates = [p for p in np.flatnonzero(input_mask).tolist() if ids[p] not in (2, 3)]
    for position in candidates:
        goes_on = masking.whole_word and words and words[-1][-1] == position - 1
        if goes_on and VOCABULARY[ids[position]].startswith("##"):
            words[-1].append(position)
        else:
            words.append([position])
    share = float(np.float32(masking.ratio) * np.float32(len(candidates)))
    limit = min(masking.max_predictions, max(1, round(share)))
    words.sort(key=lambda word: numbers[word[0]])
    short = [word for word in words if len(word) <= limit]
    if not short:
        return words[0][:limit]
    chosen = []
    for word in short:
        if len(chosen) + len(word) > limit:
            break
        chosen += word
    return sorted(chosen)


SEGMENT = st.lists(IDS, min_size=1, max_size=25)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(SEGMENT, SEGMENT), min_size=1, max_size=5),
    st.integers(1, 12),
    st.sampled_from([0.05, 0.15, 0.5, 1.0]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_positions_are_those_of_the_rule(segments, max_predictions, ratio, whole_word, seed):
    ids, input_mask = batch(segments)
    before = ids.copy()
    masking = Masking(VOCABULARY, max_predictions, ratio, whole_word)
    fields = masking.static(ids, input_mask, np.random.default_rng(seed))
    assert (ids == before).all()
    numbers = np.random.default_rng(seed).random(ids.shape)  # the order of the words
    check_rule(fields, ids, input_mask, numbers, masking)

    random = np.random.default_rng(seed).random((len(ids), 3, ids.shape[1]), np.float32)
    fields = masking.dynamic(*map(tf.constant, (ids, input_mask, random)))
    fields = {name: value.numpy() for name, value in fields.items()}
    check_rule(fields, ids, input_mask, random[:, 0], masking)
    check_replacements(fields, ids, random)


def check_rule(fields, ids, input_mask, numbers, masking):
    """Checks every field against the rule; `numbers` order the words."""
    for row in range(len(ids)):
        expected = by_the_rule(ids[row], input_mask[row], numbers[row], masking)
        names = "positions", "ids", "weights"
        positions, tokens, weights = (fields[f"masked_lm_{name}"][row] for name in names)
        count, rest = len(expected), masking.max_predictions - len(expected)
        assert positions.tolist() == expected + [0] * rest
        assert weights.tolist() == [1.0] * count + [0.0] * rest
        assert tokens[:count].tolist() == ids[row, expected].tolist()
        assert not tokens[count:].any()
        masked = fields["input_ids"][row]
        assert (np.delete(masked, expected) == np.delete(ids[row], expected)).all()
        assert all(token == MASK_ID or token >= FIRST_WORD for token in masked[expected])


def check_replacements(fields, ids, random):
    """Checks what is in the place of each prediction, by the numbers it was given."""
    choices = np.float32(len(VOCABULARY) - FIRST_WORD)
    for row, column in np.argwhere(fields["masked_lm_weights"] > 0):
        position = fields["masked_lm_positions"][row, column]
        _, fate, number = random[row, :, position]
        kept = fate >= np.float32(0.9)
        expected = ids[row, position] if kept else FIRST_WORD + int(number * choices)
        expected = MASK_ID if fate < np.float32(0.8) else expected
        assert fields["input_ids"][row, position] == expected


def test_shares_are_rounded_as_tensorflow_does():
    """0.15 * 190 is 28.5 as a 64-bit float, which is rounded to 28, and a little more in 32."""
    ids, input_mask = batch([([6] * 100, [7] * 90)])
    fields = Masking(VOCABULARY, 40, 0.15).static(ids, input_mask, np.random.default_rng(0))
    assert fields["masked_lm_weights"].sum() == tf.round(0.15 * tf.constant(190.0)) == 29


def test_what_is_put_in_place():
    ids, input_mask = batch([([6] * 100, [7] * 97)] * 300)
    fields = Masking(VOCABULARY, 40, 0.15).static(ids, input_mask, np.random.default_rng(0))
    assert (fields["masked_lm_weights"].sum(axis=1) == round(0.15 * 197)).all()
    used = fields["masked_lm_weights"] > 0
    before = fields["masked_lm_ids"][used]
    after = np.take_along_axis(fields["input_ids"], fields["masked_lm_positions"], 1)[used]
    choices = len(VOCABULARY) - FIRST_WORD
    stays = 0.1 + 0.1 / choices
    for share, hits in ((0.8, after == MASK_ID), (stays, after == before)):
        assert abs(hits.mean() - share) < 4 * (share * (1 - share) / len(before)) ** 0.5
    others = collections.Counter(after[(after != MASK_ID) & (after != before)].tolist())
    assert set(others) == set(range(FIRST_WORD, len(VOCABULARY)))


def test_unused_tokens_of_googles_vocabularies_are_never_put_in():
    vocabulary = ("[PAD]", *(f"[unused{n}]" for n in range(99)), *SPECIAL_TOKENS[1:], "a", "b")
    ids = np.full((100, 20), 104, np.int32)
    masking = Masking(vocabulary, 15, 0.7)
    seen = masking.static(ids, np.ones_like(ids), np.random.default_rng(0))["input_ids"]
    assert set(seen.ravel().tolist()) == {103, 104, 105}

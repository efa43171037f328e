"""Examples as a whole; what pairs and masks are is tested with them."""

import itertools

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipelines.shards.shard_files import to_example
from pipelines.text.bert_examples import IS_NEXT
from pipelines.text.wordpiece import SPECIAL_TOKENS
from tests.pipelines.text.token_lists import build_examples, tokenized

CLS, SEP, MASK = 2, 3, 4
WORDS = [f"{'##' if number % 3 == 2 else ''}w{number}" for number in range(400)]
VOCABULARY = [*SPECIAL_TOKENS, *WORDS]


def numbered(lengths):
    """Documents whose tokens are all different, and consecutive: an id tells its place."""
    ids = itertools.count(len(SPECIAL_TOKENS))
    return [[list(itertools.islice(ids, length)) for length in document] for document in lengths]


DOCUMENTS = st.lists(
    st.lists(st.integers(1, 9), min_size=1, max_size=7), min_size=2, max_size=6
).map(numbered)


def unmasked(example):
    """The tokens of an example before masking, without padding."""
    tokens = example["input_ids"].copy()
    count = int(example["masked_lm_weights"].sum())
    tokens[example["masked_lm_positions"][:count]] = example["masked_lm_ids"][:count]
    return tokens[: example["input_mask"].sum()].tolist()


OPTIONS = st.fixed_dictionaries(
    {
        "max_length": st.integers(5, 50),
        "max_predictions": st.integers(1, 8),
        "whole_word": st.booleans(),
        "duplication": st.integers(1, 3),
        "seed": st.integers(0, 2**40),
        "vocabulary": st.just(VOCABULARY),
    }
)


@hypothesis_settings(max_examples=40, deadline=None)
@given(DOCUMENTS, OPTIONS)
def test_examples(documents, options):
    home = {token: n for n, d in enumerate(documents) for sentence in d for token in sentence}
    max_length, seen = options["max_length"], set()
    examples = list(build_examples(tokenized(documents), **options))
    for example in examples:
        tokens = unmasked(example)
        length = len(tokens)
        assert example["input_mask"].tolist() == [1] * length + [0] * (max_length - length)
        assert not example["input_ids"][length:].any()
        assert tokens[0] == CLS and tokens[-1] == SEP and tokens.count(SEP) == 2
        middle = tokens.index(SEP)
        first, second = tokens[1:middle], tokens[middle + 1 : -1]
        segments = [0] * (middle + 1) + [1] * (length - middle - 1)
        assert example["segment_ids"].tolist() == segments + [0] * (max_length - length)
        for segment in (first, second):  # contiguous, and in one document
            assert segment and segment == list(range(segment[0], segment[-1] + 1))
            assert home[segment[0]] == home[segment[-1]]
        (label,) = example["next_sentence_labels"].tolist()
        assert label == int(home[first[0]] != home[second[0]])
        if label == IS_NEXT:
            assert second[0] == first[-1] + 1 or second[0] > first[-1] and length == max_length
        seen.add(home[first[0]])
        count = int(example["masked_lm_weights"].sum())
        positions = example["masked_lm_positions"][:count]
        assert min(tokens[position] for position in positions) > MASK  # never a special token
        goes_on = [token > MASK and WORDS[token - 5].startswith("##") for token in tokens]
        torn = [p for p in positions if goes_on[p + 1] and p + 1 not in positions]
        # The pieces of a word are masked together; only if no word fits is one cut.
        assert not (options["whole_word"] and torn) or positions[-1] - positions[0] == count - 1
    assert seen == set(range(len(documents)))
    again = map(to_example, build_examples(tokenized(documents), **options))
    assert list(again) == list(map(to_example, examples))
    options["seed"] += 1
    other = map(to_example, build_examples(tokenized(documents), **options))
    assert len(examples) < 5 or list(other) != list(map(to_example, examples))


def test_dynamic_examples_are_the_static_ones_before_masking():
    documents = numbered([[5] * 20, [6] * 20])
    options = {"max_length": 24, "max_predictions": 5, "seed": 3, "vocabulary": VOCABULARY}
    static = build_examples(tokenized(documents), **options)
    dynamic = build_examples(tokenized(documents), dynamic=True, **options)
    for masked, plain in zip(static, dynamic, strict=True):
        assert plain["input_ids"][: plain["input_mask"].sum()].tolist() == unmasked(masked)
        for name in ("input_mask", "segment_ids", "next_sentence_labels"):
            assert (plain[name] == masked[name]).all()

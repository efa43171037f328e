import collections
import itertools

import numpy as np
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipelines.shards.shard_files import to_example
from pipelines.text.bert_examples import IS_NEXT
from pipelines.text.wordpiece import SPECIAL_TOKENS
from tests.pipelines.text.token_lists import build_examples, tokenized

PAD, UNKNOWN, CLS, SEP, MASK = range(5)
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


@hypothesis_settings(max_examples=50, deadline=None)
@given(
    documents=DOCUMENTS,
    max_length=st.integers(5, 50),
    max_predictions=st.integers(1, 8),
    whole_word=st.booleans(),
    duplication=st.integers(1, 3),
    seed=st.integers(0, 2**40),
)
def test_examples(documents, max_length, max_predictions, whole_word, duplication, seed):
    options = {
        "max_length": max_length,
        "max_predictions": max_predictions,
        "whole_word": whole_word,
        "duplication": duplication,
        "seed": seed,
        "vocabulary": VOCABULARY,
    }
    home = {token: n for n, d in enumerate(documents) for sentence in d for token in sentence}
    seen = collections.Counter()
    examples = list(build_examples(tokenized(documents), **options))
    for example in examples:
        length = int(example["input_mask"].sum())
        assert example["input_mask"].tolist() == [1] * length + [0] * (max_length - length)
        assert not example["input_ids"][length:].any()
        tokens = unmasked(example)
        assert tokens[0] == CLS and tokens[-1] == SEP and tokens.count(SEP) == 2
        middle = tokens.index(SEP)
        first, second = tokens[1:middle], tokens[middle + 1 : -1]
        assert example["segment_ids"].tolist() == (
            [0] * (middle + 1) + [1] * (length - middle - 1) + [0] * (max_length - length)
        )

        homes = []
        for segment in (first, second):  # contiguous, and in one document
            assert segment and segment == list(range(segment[0], segment[-1] + 1))
            homes.append(home[segment[0]])
            assert home[segment[-1]] == homes[-1]
        (label,) = example["next_sentence_labels"].tolist()
        assert label == int(homes[0] != homes[1])
        if label == IS_NEXT:
            assert second[0] > first[-1]
            assert second[0] == first[-1] + 1 or length == max_length
        seen.update((homes[0],))

        count = int(example["masked_lm_weights"].sum())
        positions = example["masked_lm_positions"][:count].tolist()
        limit = min(
            max_predictions, max(1, round(float(np.float32(0.15) * np.float32(length - 3))))
        )
        assert 1 <= count <= limit and (whole_word or count == limit)
        assert positions == sorted(set(positions))
        for name in ("positions", "ids", "weights"):
            values = example[f"masked_lm_{name}"]
            assert len(values) == max_predictions and not values[count:].any()
        assert min(tokens[position] for position in positions) > MASK  # never a special token
        kept = [i for i in range(length) if i not in positions]
        assert [tokens[i] for i in kept] == example["input_ids"][kept].tolist()
        if whole_word:
            for position in positions:
                following = tokens[position + 1]
                if following > MASK and VOCABULARY[following].startswith("##"):
                    assert position + 1 in positions or count == limit

    assert set(seen) == set(range(len(documents)))
    again = map(to_example, build_examples(tokenized(documents), **options))
    assert list(again) == list(map(to_example, examples))
    other = map(to_example, build_examples(tokenized(documents), **{**options, "seed": seed + 1}))
    assert len(examples) < 5 or list(other) != list(map(to_example, examples))


def test_dynamic_examples_are_the_static_ones_before_masking():
    documents = numbered([[5] * 20, [6] * 20])
    options = {
        "max_length": 24, "max_predictions": 5, "seed": 3, "duplication": 2,
        "vocabulary": VOCABULARY,
    }  # fmt: skip
    static = list(build_examples(tokenized(documents), **options))
    dynamic = list(build_examples(tokenized(documents), dynamic=True, **options))
    for masked, plain in zip(static, dynamic, strict=True):
        assert plain["input_ids"][: plain["input_mask"].sum()].tolist() == unmasked(masked)
        for name in ("input_mask", "segment_ids", "next_sentence_labels"):
            assert (plain[name] == masked[name]).all()

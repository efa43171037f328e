import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.command_line import UserError
from pipelines import text_examples
from pipelines.text_examples import build_examples, tokenize_documents, write_text_examples
from pipelines.tfrecords import to_example
from pipelines.vocabulary import SPECIAL_TOKENS
from pipelines.wikipedia import Document

PAD, UNKNOWN, CLS, SEP, MASK = range(5)
LENGTH, PREDICTIONS = 64, 20


@pytest.fixture(scope="module")
def documents():
    """Forty documents whose tokens are all different, and consecutive: an id tells its place."""
    random = np.random.default_rng(0)
    ids = itertools.count(len(SPECIAL_TOKENS))
    return [
        [list(itertools.islice(ids, int(random.integers(1, 60)))) for _ in range(50)]
        for _ in range(40)
    ]


@pytest.fixture(scope="module")
def vocabulary(documents):
    return [*SPECIAL_TOKENS, *(f"word{number}" for number in range(documents[-1][-1][-1] - 4))]


@pytest.fixture(scope="module")
def make(documents, vocabulary):
    def build(documents=documents, **settings):
        settings = {"max_length": LENGTH, "max_predictions": PREDICTIONS, "seed": 1} | settings
        return list(build_examples(documents, vocabulary=vocabulary, **settings))

    return build


@pytest.fixture(scope="module")
def examples(make):
    return make()


@pytest.fixture(scope="module")
def document_of(documents):
    """The document that holds a token id."""
    starts = np.array([document[0][0] for document in documents])
    return lambda token: int(np.searchsorted(starts, token, side="right")) - 1


def unmasked(example):
    """The tokens of an example before masking, without padding."""
    tokens = example["input_ids"].copy()
    count = int(example["masked_lm_weights"].sum())
    tokens[example["masked_lm_positions"][:count]] = example["masked_lm_ids"][:count]
    return tokens[: example["input_mask"].sum()]


def segments(example):
    """The two segments of an example, before masking."""
    tokens = unmasked(example).tolist()
    assert tokens[0] == CLS and tokens[-1] == SEP and tokens.count(SEP) == 2
    middle = tokens.index(SEP)
    return tokens[1:middle], tokens[middle + 1 : -1]


def test_fields(examples):
    for example in examples:
        assert {name: (value.shape, value.dtype) for name, value in example.items()} == {
            "input_ids": ((LENGTH,), np.int64),
            "input_mask": ((LENGTH,), np.int64),
            "segment_ids": ((LENGTH,), np.int64),
            "masked_lm_positions": ((PREDICTIONS,), np.int64),
            "masked_lm_ids": ((PREDICTIONS,), np.int64),
            "masked_lm_weights": ((PREDICTIONS,), np.float32),
            "next_sentence_labels": ((1,), np.int64),
        }


def test_examples_decode_to_the_documents(examples, document_of):
    for example in examples:
        first, second = segments(example)
        assert first and second
        for segment in (first, second):  # contiguous, and in one document
            assert segment == list(range(segment[0], segment[-1] + 1))
            assert document_of(segment[0]) == document_of(segment[-1])
        if example["next_sentence_labels"][0] == 0:
            assert document_of(first[0]) == document_of(second[0])
            assert second[0] > first[-1]
            if len(first) + len(second) < LENGTH - 3:  # nothing was cut off
                assert second[0] == first[-1] + 1
        else:
            assert document_of(first[0]) != document_of(second[0])


def test_seams_are_whole_where_nothing_was_cut(make):
    pairs = [
        segments(example)
        for example in make(max_length=256, short_sequence_probability=1)
        if example["next_sentence_labels"][0] == 0 and not example["input_mask"].all()
    ]
    assert len(pairs) > 50
    assert all(second[0] == first[-1] + 1 for first, second in pairs)


def test_every_sentence_is_used_once(documents):
    """Sentences that a random second segment displaced are put back."""
    for index, document in enumerate(documents):
        random = np.random.default_rng(index)
        used = []
        for first, second, label in text_examples._pairs(documents, index, 61, 0.1, random):
            used += first + (second if label == text_examples.IS_NEXT else [])
        assert used == [token for sentence in document for token in sentence]


def test_layout_and_padding(examples):
    shorter = 0
    for example in examples:
        first, second = segments(example)
        length = len(first) + len(second) + 3
        assert example["input_mask"].tolist() == [1] * length + [0] * (LENGTH - length)
        assert example["segment_ids"].tolist() == (
            [0] * (len(first) + 2) + [1] * (len(second) + 1) + [0] * (LENGTH - length)
        )
        assert not example["input_ids"][length:].any()
        count = int(example["masked_lm_weights"].sum())
        for name in ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights"):
            assert not example[name][count:].any()
        assert (example["masked_lm_weights"][:count] == 1).all()
        shorter += length < LENGTH
    assert shorter


def test_masked_positions(examples):
    for example in examples:
        count = int(example["masked_lm_weights"].sum())
        positions = example["masked_lm_positions"][:count]
        assert count >= 1
        assert (np.diff(positions) > 0).all()  # ascending, so none twice
        assert example["masked_lm_ids"][:count].min() > MASK  # never a special token
        untouched = np.delete(np.arange(example["input_mask"].sum()), positions)
        assert MASK not in example["input_ids"][untouched]


def test_shares(make):
    examples = make(duplication=4)
    labels = np.array([e["next_sentence_labels"][0] for e in examples])
    assert len(examples) > 2000
    assert abs(labels.mean() - 0.5) < 4 * 0.5 / len(labels) ** 0.5

    full = [e for e in examples if e["input_mask"].all()]
    predictions = np.array([e["masked_lm_weights"].sum() for e in full])
    assert (predictions == round(0.15 * (LENGTH - 3))).all()
    assert len(full) > 0.7 * len(examples)

    # Where in an example the predictions fall is even too.
    positions = np.concatenate([e["masked_lm_positions"][:9] for e in full])
    assert abs(positions.mean() - (LENGTH - 1) / 2) < 0.5

    before = np.concatenate([e["masked_lm_ids"][:9] for e in full])
    after = np.concatenate([e["input_ids"][e["masked_lm_positions"][:9]] for e in full])
    for share, hits in (
        (0.8, after == MASK),
        (0.1, after == before),
        (0.1, (after != MASK) & (after != before)),
    ):
        error = (share * (1 - share) / len(before)) ** 0.5
        assert abs(hits.mean() - share) < 4 * error
    assert after.min() >= MASK  # random tokens are never special


def test_random_second_segments_come_from_everywhere(make, document_of):
    others = {
        document_of(segments(example)[1][0])
        for example in make(duplication=4)
        if example["next_sentence_labels"][0] == 1
    }
    assert others == set(range(40))


def test_both_ends_are_cut(examples, documents):
    """Over-long pairs lose tokens at the front as well as at the end."""
    starts = {sentence[0] for document in documents for sentence in document}
    ends = {sentence[-1] for document in documents for sentence in document}
    full = [segments(e) for e in examples if e["input_mask"].all()]
    assert 0.2 < np.mean([first[0] not in starts for first, _ in full]) < 0.9
    assert 0.2 < np.mean([second[-1] not in ends for _, second in full]) < 0.9


def test_truncation():
    random = np.random.default_rng(0)
    for first, second, kept in (
        (10, 10, (10, 10)),
        (30, 5, (15, 5)),
        (5, 30, (5, 15)),
        (30, 30, (10, 10)),
        (11, 30, (10, 10)),
    ):
        a, b = text_examples._truncate(list(range(first)), list(range(second)), 20, random)
        assert (len(a), len(b)) == kept
        assert a == list(range(a[0], a[0] + len(a))) and b == list(range(b[0], b[0] + len(b)))
    a, b = text_examples._truncate(list(range(30)), list(range(30)), 21, random)
    assert (len(a), len(b)) == (11, 10)


def test_short_examples(make):
    def mean_length(probability):
        lengths = [e["input_mask"].sum() for e in make(short_sequence_probability=probability)]
        return np.mean(lengths)

    assert mean_length(0) > 62 > mean_length(0.5) > mean_length(1)


def test_few_predictions_and_short_lengths(make):
    assert {int(e["masked_lm_weights"].sum()) for e in make(max_predictions=2)} <= {1, 2}
    for example in make(max_length=5, max_predictions=1):
        assert example["masked_lm_weights"].tolist() == [1.0]
    counts = [e["masked_lm_weights"].sum() for e in make(max_predictions=61, masked_ratio=0.5)]
    assert max(counts) == round(0.5 * 61)


def test_same_seed_same_bytes(make, documents):
    def serialized(**settings):
        return [to_example(example) for example in make(**settings)]

    once = serialized()
    np.random.seed(7)  # global state plays no part
    assert serialized() == once
    assert serialized(seed=2) != once
    twice = serialized(duplication=2)
    assert twice[: len(once)] == once
    assert not set(twice[len(once) :]) & set(once)
    # A document's examples do not change when another one is shortened.
    changed = [*documents[:-1], documents[-1][:1]]
    count = sum(1 for a, b in zip(once, serialized(documents=changed), strict=False) if a == b)
    assert count > 0.9 * len(once)


def test_unusable_documents_are_refused(documents, vocabulary):
    for few in ([], documents[:1], [documents[0], [], [[]]]):
        with pytest.raises(UserError, match="two or more"):
            build_examples(few, max_length=64, max_predictions=9, vocabulary=vocabulary, seed=0)
    with pytest.raises(UserError, match="length of 4"):
        build_examples(documents, max_length=4, max_predictions=9, vocabulary=vocabulary, seed=0)


def test_replacements_avoid_unused_tokens_of_googles_vocabularies():
    vocabulary = ["[PAD]", *(f"[unused{n}]" for n in range(99)), *SPECIAL_TOKENS[1:], "a", "b"]
    documents = [[[104] * 10] * 20, [[105] * 10] * 20]
    seen = set()
    for example in build_examples(
        documents, max_length=64, max_predictions=20, vocabulary=vocabulary, seed=0, duplication=5
    ):
        seen |= set(example["input_ids"].tolist())
        assert example["input_ids"][0] == 101
    assert seen == {0, 101, 102, 103, 104, 105}


def test_tokenize_documents():
    vocabulary = [*SPECIAL_TOKENS, "the", "cat", "##s", "sat", ".", "é", "The"]
    documents = [
        Document("one", ("The cats sat. The cat sat.", "Cats.")),
        Document("two", ("\x00", " ")),
        Document("three", ("Dogs sat.", "[MASK] the.")),
    ]
    assert tokenize_documents(documents, vocabulary) == [
        [[5, 6, 7, 8, 9], [5, 6, 8, 9], [6, 7, 9]],
        [[UNKNOWN, 8, 9], [UNKNOWN, UNKNOWN, UNKNOWN, 5, 9]],  # a special token is never typed
    ]
    assert tokenize_documents(documents[:1], vocabulary, lower_case=False) == [
        [[11, 6, 7, 8, 9], [11, 6, 8, 9], [UNKNOWN, 9]]
    ]


def test_written_examples(tmp_path, examples):
    few = examples[:50]
    assert write_text_examples(iter(few), str(tmp_path / "text"), 2) == 50
    assert write_text_examples(few, str(tmp_path / "shuffled"), 2, shuffle_seed=3) == 50

    def read(name):
        paths = sorted(str(path) for path in tmp_path.glob(f"{name}-*"))
        assert [path[-14:] for path in paths] == ["00000-of-00002", "00001-of-00002"]
        shards = [[r.numpy() for r in tf.data.TFRecordDataset(path)] for path in paths]
        return [record for pair in zip(*shards, strict=True) for record in pair]

    in_order = [to_example(example) for example in few]
    assert read("text") == in_order
    assert read("shuffled") != in_order
    assert sorted(read("shuffled")) == sorted(in_order)
    features = tf.train.Example.FromString(in_order[0]).features.feature
    assert list(features["input_ids"].int64_list.value) == few[0]["input_ids"].tolist()
    assert list(features["masked_lm_weights"].float_list.value) == (
        few[0]["masked_lm_weights"].tolist()
    )

"""Texts as batches: tokens, cuts, buckets, and every text once, on any number of replicas."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from pipelines.tasks.labelled_texts import LabelledTexts
from pipelines.text.wordpiece import SPECIAL_TOKENS

WORDS = [f"word{n}" for n in range(40)]
VOCABULARY = [*SPECIAL_TOKENS, *WORDS]
CLS, SEP = (VOCABULARY.index(token) for token in ("[CLS]", "[SEP]"))
BUCKETS = (8, 16, 24)


def make_texts(count, pairs):
    random = np.random.default_rng(0)

    def sentences():
        return [" ".join(random.choice(WORDS, size)) for size in random.integers(0, 20, count)]

    first, second = sentences(), sentences() if pairs else None
    labels = random.integers(0, 3, count)
    return first, second, labels, LabelledTexts.encode(first, second, labels, VOCABULARY, BUCKETS)


def bert_cut(first, second, longest):
    """`_truncate_seq_pair` of BERT's run_classifier.py, token by token."""
    while first + second > longest:
        if first > second:
            first -= 1
        else:
            second -= 1
    return first, second


def test_pairs_are_cut_as_in_bert():
    sizes = np.array([(a, b) for a in range(14) for b in range(14)])
    first, second = ([" ".join(WORDS[:size]) for size in column] for column in sizes.T)
    for longest in (2, 5, 40):
        labels = np.zeros(len(sizes))
        texts = LabelledTexts.encode(first, second, labels, VOCABULARY, (longest + 3,))
        cut = np.stack([texts.first_lengths - 2, texts.lengths - texts.first_lengths - 1], axis=1)
        np.testing.assert_array_equal(cut, [bert_cut(a, b, longest) for a, b in sizes])


@pytest.mark.parametrize("pairs", [False, True])
def test_a_batch_holds_its_texts(pairs):
    first, second, labels, texts = make_texts(30, pairs)
    plan = np.array([[4, 0, 9, -1], [1, 2, 3, 29]], np.int32)
    for numbers, batch in zip(plan, texts.batches(plan).as_numpy_iterator(), strict=True):
        rows = []
        for number in numbers:
            ids = segments = []
            if number >= 0:
                a = [VOCABULARY.index(word) for word in first[number].split()]
                b = [VOCABULARY.index(word) for word in second[number].split()] if pairs else []
                kept_a, kept_b = bert_cut(len(a), len(b), BUCKETS[-1] - (3 if pairs else 2))
                ids = [CLS, *a[:kept_a], SEP, *([*b[:kept_b], SEP] if pairs else [])]
                segments = [0] * (kept_a + 2) + [1] * (len(ids) - kept_a - 2)
            rows.append((ids, segments))
        length = min(size for size in BUCKETS if size >= max(len(ids) for ids, _ in rows))
        assert batch["token_ids"].shape == (4, length)
        for place, (ids, segments) in enumerate(rows):
            padding = [0] * (length - len(ids))  # [PAD]
            assert batch["token_ids"][place].tolist() == ids + padding
            assert batch["segment_ids"][place].tolist() == segments + padding
            assert batch["padding_mask"][place].tolist() == [1] * len(ids) + padding
        assert batch["numbers"].tolist() == numbers.tolist()
        there = numbers >= 0
        assert batch["weights"].tolist() == there.astype(float).tolist()
        assert batch["labels"].tolist() == np.where(there, labels[numbers], 0).tolist()


def test_training_takes_every_text_once_an_epoch():
    *_, texts = make_texts(50, True)
    plan = texts.training_plan(seed=3, steps=100, batch=4)
    # 64 batches, sorted by length within, are 5.12 epochs: what is whole of them comes evenly.
    assert set(collections.Counter(plan[:64].ravel()).values()) <= {5, 6}
    counts = collections.Counter(plan.ravel())
    assert set(counts) == set(range(50)) and set(counts.values()) == {8}
    assert not np.array_equal(plan, texts.training_plan(4, 100, 4))
    # The beginning of a longer run is the same, up to the pool that is cut.
    np.testing.assert_array_equal(texts.training_plan(3, 300, 4)[:64], plan[:64])


@pytest.mark.parametrize("hosts", [1, 2])
def test_replicas_share_the_batches(hosts):
    *_, texts = make_texts(37, False)
    evaluated = texts.evaluation_plan(8)
    assert sorted(evaluated.ravel()) == [-1] * 3 + list(range(37))
    plan = np.concatenate([texts.training_plan(1, 4, 8), evaluated])
    wanted = list(texts.batches(plan, first_step=4).as_numpy_iterator())
    assert len(wanted) == 5
    for host in range(hosts):
        context = tf.distribute.InputContext(hosts, host, 4)
        stream = texts.batches(plan, 4, context).as_numpy_iterator()
        for batch in wanted:
            shares = [next(stream) for _ in range(4 // hosts)]
            for name, value in batch.items():
                joined = np.concatenate([share[name] for share in shares])
                np.testing.assert_array_equal(joined, value[host::hosts])
        assert next(stream, None) is None


def test_a_part():
    *_, texts = make_texts(20, True)
    indices = np.array([7, 3, 19])
    [ours] = texts.part(indices).batches(np.arange(3)[None]).as_numpy_iterator()
    [wanted] = texts.batches(indices[None]).as_numpy_iterator()
    for name in ours.keys() - {"numbers"}:
        np.testing.assert_array_equal(ours[name], wanted[name])

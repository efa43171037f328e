"""Packed rows against best fit in plain Python, and as the texts they hold."""

import numpy as np
import pytest
import tensorflow as tf

from pipelines.text_stream import packed

LENGTH, PREDICTIONS = 16, 3


def make_batch(sizes, seed=0):
    rng = np.random.default_rng(seed)
    texts = len(sizes)
    real = np.arange(LENGTH) < np.array(sizes)[:, None]
    return {
        "token_ids": (rng.integers(5, 99, (texts, LENGTH)) * real).astype(np.int32),
        "segment_ids": (rng.integers(0, 2, (texts, LENGTH)) * real).astype(np.int32),
        "padding_mask": real.astype(np.int32),
        "masked_positions": rng.integers(0, sizes, (PREDICTIONS, texts)).T.astype(np.int32),
        "next_sentence_labels": rng.integers(0, 2, texts).astype(np.int32),
    }


def run(batch, micro_batches=1):
    function = tf.function(lambda batch: packed(batch, micro_batches), autograph=False)
    found = function({name: tf.constant(value) for name, value in batch.items()})
    return {name: value.numpy() for name, value in found.items()}


def best_fit(sizes):
    """Rows as lists of texts, in the order in which they are put there."""
    rows = []
    for text in sorted(range(len(sizes)), key=lambda text: -sizes[text]):
        room = [LENGTH - sum(sizes[other] for other in row) for row in rows]
        fits = [number for number, left in enumerate(room) if left >= sizes[text]]
        if fits:
            rows[min(fits, key=lambda number: room[number])].append(text)
        else:
            rows.append([text])
    return rows


MANY = list(np.random.default_rng(1).integers(1, LENGTH + 1, 40))


@pytest.mark.parametrize("sizes", [[16, 16, 16], [1], [8] * 6, MANY])
def test_every_text_is_whole_and_rows_are_those_of_best_fit(sizes):
    batch = make_batch(sizes)
    found = run(batch)
    rows = best_fit(sizes)
    assert len(found["token_ids"]) == len(rows)
    texts_in = [sorted({*row} - {0}) for row in found["padding_mask"]]
    assert texts_in == [sorted(text + 1 for text in row) for row in rows]
    for text, size in enumerate(sizes):
        start = found["text_starts"][text]
        row, first = divmod(start, LENGTH)
        assert first + size <= LENGTH
        for name in ("token_ids", "segment_ids"):
            values = found[name][row, first : first + size]
            np.testing.assert_array_equal(values, batch[name][text, :size])
        own = found["padding_mask"] == text + 1
        np.testing.assert_array_equal(np.flatnonzero(own), start + np.arange(size))
        np.testing.assert_array_equal(found["position_ids"][own], np.arange(size))
    padding = found["padding_mask"] == 0
    assert np.sum(~padding) == sum(sizes)
    for name in ("token_ids", "segment_ids", "position_ids"):
        assert not np.any(found[name][padding])
    for name in ("masked_positions", "next_sentence_labels"):
        np.testing.assert_array_equal(found[name], batch[name])


def test_each_part_is_packed_by_itself():
    """The part with fewer rows gets empty ones."""
    sizes = [16, 15, 14, 13, 2, 3, 4, 5]
    batch = make_batch(sizes)
    found = run(batch, 2)
    assert found["token_ids"].shape == (8, LENGTH)
    for number in range(2):
        own = {name: value[4 * number : 4 * number + 4] for name, value in batch.items()}
        alone = run(own)
        count = len(alone["token_ids"])
        assert count == [4, 1][number]
        for name, value in alone.items():
            part = found[name][4 * number : 4 * number + 4]
            np.testing.assert_array_equal(part[: len(value)], value, err_msg=name)
            assert name not in ("token_ids", "padding_mask") or not np.any(part[count:])

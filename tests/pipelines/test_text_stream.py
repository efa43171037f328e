import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.command_line import UserError
from pipelines.records import RecordFiles
from pipelines.text_stream import TextRecords
from pipelines.tfrecords import to_example, write_shards

LENGTH, PREDICTIONS, VOCABULARY = 12, 3, 50
BATCH_NAMES = {
    "input_ids": "token_ids",
    "segment_ids": "segment_ids",
    "input_mask": "padding_mask",
    "masked_lm_positions": "masked_positions",
    "masked_lm_ids": "masked_ids",
    "masked_lm_weights": "masked_weights",
    "next_sentence_labels": "next_sentence_labels",
}


def make_examples(count, seed=0):
    """Fields as Google's `create_pretraining_data.py` stores them."""
    random = np.random.default_rng(seed)
    return [
        {
            "input_ids": random.integers(0, VOCABULARY, LENGTH),
            "segment_ids": random.integers(0, 2, LENGTH),
            "input_mask": random.integers(0, 2, LENGTH),
            "masked_lm_positions": random.integers(0, LENGTH, PREDICTIONS),
            "masked_lm_ids": random.integers(0, VOCABULARY, PREDICTIONS),
            "masked_lm_weights": random.integers(0, 2, PREDICTIONS).astype(np.float32),
            "next_sentence_labels": random.integers(0, 2, 1),
        }
        for _ in range(count)
    ]


@pytest.fixture
def open_texts(tmp_path):
    """`open_texts(examples, length=LENGTH) -> TextRecords`."""

    def open_texts(examples, length=LENGTH):
        write_shards(map(to_example, examples), str(tmp_path / "text"), 1)
        return TextRecords.open(RecordFiles.find(str(tmp_path / "*"), "flag"), VOCABULARY, length)

    return open_texts


def read(source, dataset, batch, batches):
    parsed = dataset.batch(batch).map(source.parse)
    return [{k: v.numpy() for k, v in b.items()} for b in itertools.islice(parsed, batches)]


def garden(example):
    """The same with the names of TensorFlow's Model Garden."""
    names = {"input_ids": "input_word_ids", "segment_ids": "input_type_ids"}
    return {names.get(name, name): value for name, value in example.items()}


@pytest.mark.parametrize("rename", [dict, garden], ids=["google", "model_garden"])
def test_batches_hold_what_was_written(open_texts, rename):
    examples = make_examples(7)
    source = open_texts([rename(example) for example in examples])
    assert source.length == LENGTH
    batches = read(source, source.validation(), 3, 99)
    assert [len(b["token_ids"]) for b in batches] == [3, 3, 1]
    for stored, name in BATCH_NAMES.items():
        found = np.concatenate([batch[name] for batch in batches])
        wanted = np.stack([example[stored] for example in examples])
        if name == "next_sentence_labels":
            wanted = wanted[:, 0]
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == (np.float32 if name == "masked_weights" else np.int32)
    assert all(set(batch) == set(BATCH_NAMES.values()) for batch in batches)


def test_training_begins_at_any_number(open_texts):
    source = open_texts(make_examples(7))
    whole = [r.numpy() for r in itertools.islice(source.training(4, 0), 21)]
    assert [r.numpy() for r in itertools.islice(source.training(4, 9), 12)] == whole[9:]
    assert {r.numpy() for r in source.validation()} == set(whole[:7]) == set(whole[14:])
    assert len(set(whole)) == 7


@pytest.mark.parametrize("name", BATCH_NAMES)
def test_a_missing_field_is_told(open_texts, name):
    example = make_examples(1)[0]
    del example[name]
    with pytest.raises(UserError, match=rf"text-00000-of-00001: .* no field '{name}' but \["):
        open_texts([example])


def test_a_field_of_another_kind_is_told(open_texts):
    for name, value in (
        ("input_ids", np.ones(LENGTH, np.float32)),
        ("masked_lm_weights", np.ones(PREDICTIONS, np.int64)),
        ("next_sentence_labels", np.zeros(0, np.int64)),
    ):
        with pytest.raises(UserError, match=f"text-00000-of-00001: its field '{name}' holds no"):
            open_texts([{**make_examples(1)[0], name: value}])


def test_texts_longer_than_the_model_are_told(open_texts):
    examples = make_examples(1)
    assert open_texts(examples, LENGTH + 5).length == LENGTH
    with pytest.raises(
        UserError, match=r"12 tokens, the model takes at most 11; .*max_sequence_length=12"
    ):
        open_texts(examples, LENGTH - 1)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("input_ids", VOCABULARY, "a token id is outside the vocabulary of 50 entries"),
        ("input_ids", -1, "a token id is outside the vocabulary of 50 entries"),
        ("masked_lm_ids", VOCABULARY + 9, "a token id is outside the vocabulary of 50 entries"),
        ("masked_lm_positions", LENGTH, "a masked position is outside the text of 12 tokens"),
        ("next_sentence_labels", 2, "a next-sentence label is neither 0 nor 1"),
    ],
)
def test_a_value_out_of_range_stops_the_stream(open_texts, name, value, message):
    examples = make_examples(4)
    examples[2][name][0] = value
    source = open_texts(examples)
    assert len(read(source, source.validation(), 2, 1)) == 1
    for dataset in (source.validation(), source.training(0, 0)):
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            read(source, dataset, 2, 2)
        assert f"[{source.records.pattern}: {message}] [{value}]" in str(caught.value)


def test_a_later_record_of_another_length_stops_the_stream(open_texts):
    examples = make_examples(2)
    examples[1]["input_ids"] = examples[1]["input_ids"][:-1]
    source = open_texts(examples)
    with pytest.raises(tf.errors.InvalidArgumentError, match="input_ids"):
        read(source, source.validation(), 2, 1)

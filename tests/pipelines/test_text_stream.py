import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from pipelines.shards.records import RecordFiles
from pipelines.shards.shard_files import to_example, write_shards
from pipelines.text.wordpiece import MASK, SPECIAL_TOKENS, vocabulary_hash
from pipelines.text_stream import TextStream

LENGTH, PREDICTIONS, VOCABULARY = 12, 3, 50
TOKENS = [*SPECIAL_TOKENS, *(f"word{n}" for n in range(VOCABULARY - len(SPECIAL_TOKENS)))]
# Of each field: its name in a batch, how many values it has, and what they are less than.
FIELDS = {
    "input_ids": ("token_ids", LENGTH, VOCABULARY),
    "segment_ids": ("segment_ids", LENGTH, 2),
    "input_mask": ("padding_mask", LENGTH, 2),
    "masked_lm_positions": ("masked_positions", PREDICTIONS, LENGTH),
    "masked_lm_ids": ("masked_ids", PREDICTIONS, VOCABULARY),
    "masked_lm_weights": ("masked_weights", PREDICTIONS, 2),
    "next_sentence_labels": ("next_sentence_labels", 1, 2),
}


def make_examples(count, seed=0):
    """Fields as Google's `create_pretraining_data.py` stores them."""
    random = np.random.default_rng(seed)

    def values(name, size, below):
        kind = np.float32 if name == "masked_weights" else np.int64
        return random.integers(0, below, size).astype(kind)

    return [{stored: values(*about) for stored, about in FIELDS.items()} for _ in range(count)]


@pytest.fixture(scope="module")
def open_texts(tmp_path_factory):
    """`open_texts(examples, masking=None, **manifest) -> TextStream`."""

    def open_texts(examples, masking=None, **manifest):
        folder = tmp_path_factory.mktemp("texts")
        write_shards(map(to_example, examples), str(folder / "text"), 1, **manifest)
        records = RecordFiles.find(str(folder / "*"))
        return TextStream.open(records, TOKENS, VOCABULARY, LENGTH, masking)

    return open_texts


def take(dataset, count=None):
    return [{k: v.numpy() for k, v in b.items()} for b in itertools.islice(dataset, count)]


def stacked(examples):
    return {name: np.stack([example[name] for example in examples]) for name in examples[0]}


def garden(example):
    """The same with the names of TensorFlow's Model Garden."""
    names = {"input_ids": "input_word_ids", "segment_ids": "input_type_ids"}
    return {names.get(name, name): value for name, value in example.items()}


@pytest.mark.parametrize("rename", [dict, garden])
def test_batches_hold_what_was_written(open_texts, rename):
    examples = make_examples(7)
    source = open_texts([rename(example) for example in examples])
    everything = stacked(take(source.validation()))
    for stored, (name, *_) in FIELDS.items():
        found = everything[name]
        wanted = np.stack([example[stored] for example in examples]).reshape(found.shape)
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == (np.float32 if name == "masked_weights" else np.int32)


@pytest.mark.parametrize("name", ["input_ids", "masked_lm_ids"])
def test_a_missing_field_is_told(open_texts, name):
    """Of the three fields of the masks too, where there are others."""
    example = make_examples(1)[0]
    del example[name]
    with pytest.raises(ValueError, match=f"text-00000-of-00001: .*'{name}'"):
        open_texts([example])


@pytest.mark.parametrize(
    ("name", "value", "size"),
    [
        ("masked_lm_positions", LENGTH, LENGTH),
        ("masked_lm_weights", math.nan, math.inf),
        ("input_ids", 2**32 + 7, VOCABULARY),  # as int32, this would be right
    ],
)
def test_a_value_out_of_range_stops_the_stream(open_texts, name, value, size):
    examples = make_examples(4)
    examples[2][name][0] = value
    source = open_texts(examples)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        take(source.validation(), 4)
    assert f"a value of {name} is not in [0, {size})] [{value}]" in str(caught.value)


def test_texts_of_another_vocabulary_are_refused(open_texts):
    open_texts(make_examples(1), vocabulary_sha256=vocabulary_hash(TOKENS))
    with pytest.raises(ValueError, match="text.manifest.json: .*data.vocabulary"):
        open_texts(make_examples(1), vocabulary_sha256=vocabulary_hash(TOKENS[::-1]))


@pytest.fixture(scope="module")
def examples():
    """Texts as `text_examples --dynamic_masking` writes them; the ids tell their number."""
    examples = make_examples(9)
    for number, example in enumerate(examples):
        for name in [name for name in example if name.startswith("masked")]:
            del example[name]
        example["input_ids"] = np.full(LENGTH, 5 + number)
        example["input_mask"] = np.ones(LENGTH, int)
    return examples


@pytest.fixture(scope="module")
def unmasked(open_texts, examples):
    return open_texts(examples, masking={"max_predictions": 4, "ratio": 0.3, "whole_word": False})


def test_there_is_no_room_for_masks_that_no_text_has(open_texts, examples):
    few, many = (
        open_texts(examples, masking={"max_predictions": most, "ratio": 0.3, "whole_word": False})
        for most in (round(0.3 * LENGTH), 76)
    )
    batches = (take(texts.training(1, 0, 3), 3) for texts in (few, many))
    for expected, batch in zip(*batches, strict=True):
        assert (batch["masked_weights"] == 1).all()
        for name in expected:
            np.testing.assert_array_equal(batch[name], expected[name])


@pytest.fixture(scope="module")
def masked(unmasked):
    """Four epochs of their training."""
    return take(unmasked.training(1, 0, 3), 12)


def test_texts_without_masks_are_masked_when_they_are_read(masked):
    epochs = [{}, {}, {}, {}]
    for number, batch in enumerate(masked):
        assert set(batch) == {name for name, *_ in FIELDS.values()}
        assert batch["masked_positions"].shape == (3, 4) and (batch["masked_weights"] == 1).all()
        for row in range(3):
            [identity] = set(batch["masked_ids"][row])
            positions = batch["masked_positions"][row]
            assert (np.delete(batch["token_ids"][row], positions) == identity).all()
            epochs[number // 3][identity] = (*positions, *batch["token_ids"][row])
    assert all(set(epoch) == set(range(5, 14)) for epoch in epochs)
    masks = {masks for epoch in epochs for masks in epoch.values()}
    assert len(masks) == 36  # another mask for each text in each epoch
    hidden = [batch["token_ids"] == TOKENS.index(MASK) for batch in masked]
    assert 0.6 < np.sum(hidden) / (36 * 4) < 0.95


def test_masks_made_at_read_time_are_the_same_after_a_resume(unmasked, masked):
    for late, batch in zip(take(unmasked.training(1, 12, 3), 4), masked[4:8], strict=True):
        for name in batch:
            np.testing.assert_array_equal(late[name], batch[name])
    whole, part = (stacked(take(unmasked.validation(*part))) for part in ((), (3, 6)))
    for name in whole:
        np.testing.assert_array_equal(whole[name][3:6], part[name])


def test_the_numbers_of_a_mask_depend_on_seed_and_place(unmasked):
    def numbers(seed, number):
        return unmasked._with_random(b"", seed, tf.constant(number, tf.int64))[1].numpy()

    np.testing.assert_array_equal(numbers(1, 2), numbers(1, 2))
    keys = ((1, 2), (2, 2), (2, 1), (1, 3), (1, 2**40))
    assert len({numbers(*key).tobytes() for key in keys}) == len(keys)

import itertools
import pathlib

import numpy as np
import pytest

from pipelines.images.image_records import ImageStream, image_example
from pipelines.images.image_views import ImageViews
from pipelines.shards.records import open_without_damaged
from pipelines.shards.shard_files import to_example, write_shards
from pipelines.text.wordpiece import SPECIAL_TOKENS
from pipelines.text_stream import TextStream

COUNT, CLASSES, SIZE = 24, 30, 8
TOKENS = [*SPECIAL_TOKENS, *"abcdefghij"]


def image(label, **changes):
    """A record whose label tells its number."""
    pixels = np.random.default_rng(label).integers(0, 256, (12, 10, 3), np.uint8)
    return {**image_example(pixels, label + 1), **changes}


def text(number, **changes):
    return {
        "input_ids": [number % len(TOKENS)] * 6,
        "segment_ids": [0] * 6,
        "input_mask": [1] * 6,
        "next_sentence_labels": number % 2,
        **changes,
    }


@pytest.fixture
def write(tmp_path):
    """`write(examples, flips=()) -> pattern`: 2 files; `flips` are (file, record, byte of it)."""

    def write(examples, flips=()):
        prefix = str(tmp_path / "x")
        write_shards(map(to_example, examples), prefix, 2)
        for number, record, byte in flips:
            path = pathlib.Path(f"{prefix}-0000{number}-of-00002")
            data, position = bytearray(path.read_bytes()), 0
            for example in examples[number::2][:record]:
                position += len(to_example(example)) + 16
            data[position + byte] ^= 4
            path.write_bytes(data)
        return f"{prefix}-*"

    return write


def open_images(records):
    return ImageStream(records, CLASSES, views=ImageViews(SIZE))


def open_texts(records):
    masking = {"max_predictions": 2, "ratio": 0.3, "whole_word": True}
    return TextStream.open(records, TOKENS, len(TOKENS), 6, masking)


def lost(source):
    """{(file, record): reason}; files by their number."""
    return {
        (int(d.file[-10]), d.record + n): d.reason
        for d in source.records.damaged
        for n in range(d.records)
    }


BAD = {  # of the 24 records, the odd ones are in the second file
    3: ({"image/encoded": b"no image"}, "Unknown image file format"),
    8: ({"image/encoded": b""}, ""),
    11: ({"image/class/label": 0}, "an image label is out of range"),
    12: ({"image/class/label": CLASSES + 1}, "an image label is out of range"),
    15: ({"image/class/label": 2**32 + 1}, "an image label is out of range"),  # not as an int32
    17: ({"image/encoded": image(17)["image/encoded"][:-200]}, "Invalid JPEG data or crop window"),
    22: ({"image/class/label": [1, 2]}, "image/class/label"),
}


@pytest.fixture
def images(write):
    examples = [image(n, **BAD[n][0]) if n in BAD else image(n) for n in range(COUNT)]
    del examples[20]["image/class/label"]
    # A byte of the first record, one of the pixels of the eighth, the checksum of the length of the
    # last.
    return write(examples, [(0, 0, 100), (0, 7, 300), (1, 11, 9)])


def test_exactly_the_damaged_images_are_left_out(images):
    source = open_without_damaged(images, open_images, COUNT)
    found = lost(source)
    bad = {0, 3, 8, 11, 12, 14, 15, 17, 20, 22, 23}
    assert set(found) == {(n % 2, n // 2) for n in bad}
    for number, (_, reason) in BAD.items():
        assert reason in found[number % 2, number // 2]
    assert "image/class/label" in found[0, 10]
    assert found[0, 0] == found[0, 7] == "its content does not match its checksum"
    assert "length" in found[1, 11]
    kept = [n for n in (*range(0, COUNT, 2), *range(1, COUNT, 2)) if n not in bad]
    assert [int(label) for label in source.labels()] == kept
    assert len(list(source.validation())) == len(kept) == source.records.count
    batches = itertools.islice(source.training(0, 0, 4), 12)
    seen = np.concatenate([batch["image_labels"] for batch in batches])
    assert sorted(seen[:39]) == sorted(kept * 3)  # 13 images, three times


def test_more_damage_than_allowed_is_refused_with_the_first(images):
    with pytest.raises(ValueError, match="x-0000.-of-00002: record .*skip_damaged"):
        open_without_damaged(images, open_images, 10)
    assert len(lost(open_without_damaged(images, open_images, 11))) == 11


def test_exactly_the_damaged_texts_are_left_out(write):
    masks = {"masked_lm_positions": [1], "masked_lm_ids": [2], "masked_lm_weights": [1.0]}
    examples = [text(n, **masks) for n in range(COUNT)]
    examples[2]["input_ids"] = [99] * 6
    examples[5]["input_ids"] = [1] * 5
    examples[6]["next_sentence_labels"] = 2
    del examples[9]["segment_ids"]
    examples[13]["masked_lm_positions"] = [6]
    expected = {(0, 1), (1, 2), (0, 3), (1, 4), (1, 10), (1, 6)}
    source = open_without_damaged(write(examples, [(1, 10, 20)]), open_texts, 9)
    assert set(lost(source)) == expected
    assert "input_ids" in lost(source)[0, 1]
    assert len(list(source.validation())) == COUNT - len(expected)

import glob
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from pipelines import sample as sample_command
from pipelines.images import image_records
from pipelines.prepare import sample
from pipelines.text import tokenization
from pipelines.text.bert_examples import IS_NEXT
from pipelines.text.wordpiece import CLS, MASK, SEP, read_vocabulary

SPLITS = ("train", "validation")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(sample_command.__file__)))


def read(pattern, **fields):
    """Reads TFRecords: dict of field to an array `(examples, values)`; `fields` tell the dtypes."""
    [records] = tf.data.TFRecordDataset(sorted(glob.glob(pattern))).batch(100_000)
    columns = tf.io.parse_example(
        records, {name: tf.io.RaggedFeature(dtype) for name, dtype in fields.items()}
    )
    return {name: np.array(column.to_list()) for name, column in columns.items()}


@pytest.fixture(scope="module")
def vocabulary(prepared):
    return read_vocabulary(prepared.vocabulary)


@pytest.fixture(scope="module")
def texts(prepared):
    """The text examples of each split: unmasked tokens `(count, length)`, and labels."""
    fields = ("input_ids", "masked_lm_positions", "masked_lm_ids", "next_sentence_labels")
    splits = {}
    for split in SPLITS:
        columns = read(getattr(prepared, f"text_{split}"), **dict.fromkeys(fields, tf.int64))
        ids, positions, before, labels = (columns[field] for field in fields)
        # Padding of the predictions points to position 0, which is [CLS] and stays so.
        for row, (places, tokens) in enumerate(zip(positions, before, strict=True)):
            ids[row, places[places > 0]] = tokens[places > 0]
        splits[split] = ids, labels[:, 0]
    return splits


@pytest.fixture(scope="module")
def token_streams(real_documents, vocabulary):
    """The tokens of each real article, as bytes, so that a part of one is found quickly."""
    tokenized = tokenization.tokenize_documents(real_documents.values(), vocabulary)
    assert len(tokenized) == len(real_documents)
    borders = itertools.pairwise(tokenized.sentences[tokenized.documents])
    return [tokenized.tokens[start:stop].astype(">i4").tobytes() for start, stop in borders]


def test_images_are_split_by_class(prepared):
    images, labels = sample.read_mnist()
    every = {}
    for split, count in (("train", 450), ("validation", 50)):
        fields = {"image/class/label": tf.int64, "image/encoded": tf.string}
        columns = read(getattr(prepared, f"image_{split}"), **fields)
        found = columns["image/class/label"][:, 0] - 1
        assert np.bincount(found).tolist() == [count] * 10
        assert (np.diff(found) != 0).mean() > 0.8  # shuffled: neighbours differ
        every |= {encoded: split for (encoded,) in columns["image/encoded"].tolist()}
    # No image is in both splits, and none is missing (a few may be equal).
    expected = {image_records.image_example(i, 0)["image/encoded"] for i in images[::50]}
    assert expected <= every.keys()
    assert len(every) > 4990


def test_text_examples_are_pieces_of_their_articles(texts, token_streams, vocabulary):
    cls, sep, mask = (vocabulary.index(token) for token in (CLS, SEP, MASK))
    held_out = sample.held_out_documents(len(token_streams), 0)
    assert len(held_out) == 8

    def articles_with(segment):
        piece = segment.astype(">i4").tobytes()
        return {i for i, stream in enumerate(token_streams) if stream.find(piece) >= 0}

    for split, (ids, labels) in texts.items():
        for row, label in zip(ids[::40], labels[::40], strict=True):
            ends = np.flatnonzero(row == sep)
            assert row[0] == cls and len(ends) == 2 and mask not in row
            first, second = row[1 : ends[0]], row[ends[0] + 1 : ends[1]]
            homes = articles_with(first), articles_with(second)
            for home in homes:
                assert home and (home & held_out if split == "validation" else home - held_out)
            if min(len(first), len(second)) >= 8:  # long enough to be in one article only
                assert bool(homes[0] & homes[1]) == (label == IS_NEXT)
        assert abs(labels.mean() - 0.5) < 4 * 0.5 / len(labels) ** 0.5


def test_second_call_changes_nothing(prepared, sample_settings, monkeypatch):
    def state():
        return {
            entry.name: (entry.stat().st_mtime_ns, entry.stat().st_ino)
            for entry in os.scandir(prepared.folder)
        }

    def never(*args):
        raise AssertionError("prepared twice")

    before = state()
    monkeypatch.setattr(sample, "_build", never)
    again = sample.prepare(os.path.dirname(prepared.folder), **sample_settings)
    assert again == prepared
    assert state() == before


def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch):
    def some_text(folder, settings):
        with open(os.path.join(folder, "text-train-00000-of-00004"), "w"):
            return {}

    def failing(*args, **settings):
        raise RuntimeError("half way")

    monkeypatch.setattr(sample, "_build_text", some_text)
    monkeypatch.setattr(image_records, "write_image_records", failing)
    with pytest.raises(RuntimeError, match="half way"):
        sample.prepare(str(tmp_path))
    assert not os.listdir(tmp_path)


def test_a_killed_run_leaves_no_folder_that_is_used(tmp_path, monkeypatch):
    program = (
        "import os, signal\n"
        "from pipelines.prepare import sample\n"
        "sample._build = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"sample.prepare({str(tmp_path)!r})\n"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode < 0
    (abandoned,) = os.listdir(tmp_path)
    built = []
    monkeypatch.setattr(sample, "_build", lambda folder, _: built.append(folder))
    folder = sample.prepare(str(tmp_path)).folder
    assert len(built) == 1 and os.path.basename(folder) != abandoned and os.path.isdir(folder)

import glob
import itertools
import os

import numpy as np
import pytest
import tensorflow as tf

from pipelines.images import image_records
from pipelines.prepare import sample, wikipedia
from pipelines.text import tokenization
from pipelines.text.bert_examples import IS_NEXT
from pipelines.text.wordpiece import CLS, MASK, SEP, read_vocabulary

SETTINGS = {"vocabulary_size": 500, "duplication": 1}  # smaller than the sample's own
MASKED = ("input_ids", "masked_lm_positions", "masked_lm_ids", "next_sentence_labels")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, real_documents):
    """The whole sample, prepared once; its articles have been read already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wikipedia, "read_documents", lambda path: iter(real_documents.values()))
        return sample.prepare(str(tmp_path_factory.mktemp("sample")), **SETTINGS)


def read(pattern, *fields, dtype=tf.int64):
    """The values of fields of TFRecords: arrays `(examples, values)`."""
    [records] = tf.data.TFRecordDataset(sorted(glob.glob(pattern))).batch(100_000)
    features = {name: tf.io.RaggedFeature(dtype) for name in fields}
    columns = tf.io.parse_example(records, features)
    return [np.array(columns[name].to_list()) for name in fields]


def test_images_are_split_by_class(prepared):
    images, _ = sample.read_mnist()
    every = []
    for pattern, count in ((prepared.image_train, 450), (prepared.image_validation, 50)):
        [labels] = read(pattern, "image/class/label")
        assert np.bincount(labels[:, 0] - 1).tolist() == [count] * 10
        assert (np.diff(labels[:, 0]) != 0).mean() > 0.8  # shuffled: neighbours differ
        [encoded] = read(pattern, "image/encoded", dtype=tf.string)
        every += encoded[:, 0].tolist()
    # No image is in both splits, and none is missing (a few may be equal).
    expected = {image_records.image_example(i, 0)["image/encoded"] for i in images[::50]}
    assert expected <= set(every) and len(set(every)) > 4990


def test_text_examples_are_pieces_of_their_articles(prepared, real_documents):
    vocabulary = read_vocabulary(prepared.vocabulary)
    cls, sep, mask = (vocabulary.index(token) for token in (CLS, SEP, MASK))
    # The tokens of each article, as bytes, so that a part of one is found quickly.
    tokens = tokenization.tokenize_documents(real_documents.values(), vocabulary)
    borders = itertools.pairwise(tokens.sentences[tokens.documents])
    articles = [tokens.tokens[start:stop].astype(">i4").tobytes() for start, stop in borders]
    held_out = sample.held_out_documents(len(articles), 0)
    assert len(held_out) == 8

    def homes_of(segment):
        piece = segment.astype(">i4").tobytes()
        return {number for number, article in enumerate(articles) if piece in article}

    for pattern in (prepared.text_train, prepared.text_validation):
        ids, positions, before, labels = read(pattern, *MASKED)
        assert abs(labels.mean() - 0.5) < 4 * 0.5 / len(labels) ** 0.5
        for row, places, hidden, [label] in zip(
            *(column[::40] for column in (ids, positions, before, labels)), strict=True
        ):
            # Padding of the predictions points to position 0, which is [CLS] and stays so.
            row[places[places > 0]] = hidden[places > 0]
            [middle, end] = np.flatnonzero(row == sep)
            assert row[0] == cls and mask not in row
            homes = [homes_of(row[1:middle]), homes_of(row[middle + 1 : end])]
            is_held_out = pattern == prepared.text_validation
            assert all(home & held_out if is_held_out else home - held_out for home in homes)
            if min(middle, end - middle) > 9:  # long enough to be in one article only
                assert bool(homes[0] & homes[1]) == (label == IS_NEXT)


def test_second_call_changes_nothing(prepared, monkeypatch):
    monkeypatch.setattr(sample, "_build", None)
    before = {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(prepared.folder)}
    assert sample.prepare(os.path.dirname(prepared.folder), **SETTINGS) == prepared
    assert before == {e.name: e.stat().st_mtime_ns for e in os.scandir(prepared.folder)}


def test_a_folder_that_is_not_whole_is_not_used(tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(sample, "_build", lambda folder, _: built.append(folder))
    folder = sample.prepare(str(tmp_path)).folder
    assert built != [folder] and os.listdir(tmp_path) == [os.path.basename(folder)]
    os.rmdir(folder)
    monkeypatch.setattr(sample, "_build", lambda folder, _: os.rmdir(f"{folder}/none"))
    with pytest.raises(FileNotFoundError):
        sample.prepare(str(tmp_path))
    assert not os.listdir(tmp_path)

import glob
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from pipelines import command_line
from pipelines import sample as sample_command
from pipelines.images import image_records
from pipelines.prepare import sample
from pipelines.text import tokenization
from pipelines.text.bert_examples import IS_NEXT
from pipelines.text.wordpiece import CLS, MASK, SEP, SPECIAL_TOKENS, UNKNOWN, read_vocabulary

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


def test_folder(prepared):
    assert sorted(os.listdir(prepared.folder)) == sorted(
        [f"{kind}-train-0000{n}-of-00004" for kind in ("image", "text") for n in range(4)]
        + [f"{kind}-validation-00000-of-00001" for kind in ("image", "text")]
        + [f"{kind}-{split}.manifest.json" for kind in ("image", "text") for split in SPLITS]
        + ["sample.json", "vocab.txt"]
    )
    for pattern, count in (
        (prepared.image_train, 4),
        (prepared.image_validation, 1),
        (prepared.text_train, 4),
        (prepared.text_validation, 1),
    ):
        assert len(glob.glob(pattern)) == count
    assert os.path.dirname(prepared.vocabulary) == prepared.folder


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


def test_vocabulary(vocabulary):
    assert tuple(vocabulary[:5]) == SPECIAL_TOKENS
    assert len(vocabulary) == 1000
    assert {"the", "anarchism", "##s"} <= set(vocabulary)


def test_few_tokens_are_unknown(texts, vocabulary):
    for ids, _ in texts.values():
        real = ids[ids != 0]
        assert (real == vocabulary.index(UNKNOWN)).mean() < 0.01


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


def test_text_is_shuffled_across_articles(texts, token_streams):
    labels = texts["train"][1]
    assert len(labels) > 8000
    sizes = [len(stream) for stream in token_streams]
    order = []
    for row in texts["train"][0][:60]:
        piece = row[1:9].astype(">i4").tobytes()
        order.append(next((i for i, s in enumerate(token_streams) if s.find(piece) >= 0), -1))
    assert len(set(order)) > 20 and max(sizes) < 0.1 * sum(sizes)


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


def test_a_faster_process_wins(tmp_path, monkeypatch):
    def overtaken(folder, settings):
        monkeypatch.setattr(sample, "_build", lambda folder, _: os.mkdir(f"{folder}/faster"))
        sample.prepare(str(tmp_path))

    monkeypatch.setattr(sample, "_build", overtaken)
    folder = sample.prepare(str(tmp_path)).folder
    assert os.listdir(folder) == ["faster"]
    assert os.listdir(tmp_path) == [os.path.basename(folder)]


def test_places_that_cannot_be_used_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        sample.prepare(str(tmp_path / "file"))
    with pytest.raises(ValueError, match="gs://bucket/cache"):
        sample.prepare("gs://bucket/cache")


def test_default_place(monkeypatch):
    monkeypatch.setenv("KERAS_VITBERT_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert sample.default_cache_dir() == "/a"
    monkeypatch.delenv("KERAS_VITBERT_CACHE")
    assert sample.default_cache_dir() == "/b/keras_vitbert"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert sample.default_cache_dir() == "~/.cache/keras_vitbert"


def test_settings_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "_build", lambda folder, settings: None)
    folders = {
        sample.prepare(str(tmp_path), **settings).folder
        for settings in ({}, {"seed": 1}, {"max_length": 128}, {"vocabulary_size": 500})
    }
    assert len(folders) == 4


def test_splits_follow_the_seed():
    labels = np.repeat(np.arange(3), 20)
    splits = [sample._split_by_class(labels, seed) for seed in (0, 0, 1)]
    for split in splits:
        assert np.bincount(labels[split["validation"]]).tolist() == [2, 2, 2]
        assert sorted([*split["train"], *split["validation"]]) == list(range(60))
    assert splits[0]["train"].tolist() == splits[1]["train"].tolist()
    assert splits[0]["validation"].tolist() != splits[2]["validation"].tolist()
    assert sample.held_out_documents(97, 0) != sample.held_out_documents(97, 1)
    assert len(sample.held_out_documents(5, 0)) == 2


def test_command(prepared, sample_settings, capsys):
    folder = os.path.dirname(prepared.folder)
    flags = [f"--{name}={value}" for name, value in sample_settings.items()]
    assert command_line.run(sample_command.main, [f"--cache_dir={folder}", *flags]) == 0
    assert capsys.readouterr().out == f"{prepared.folder}\n"


@pytest.mark.slow
def test_apache_beam_is_not_needed():
    program = (
        "import sys\n"
        "sys.modules['apache_beam'] = None  # importing it fails\n"
        "from pipelines import joint_stream, sample, vocabulary, wikipedia\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)

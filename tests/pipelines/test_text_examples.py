import collections
import itertools
import json
import os
import pickle
import shutil

import numpy as np
import pytest
import tensorflow as tf

from pipelines import command_line, text_examples
from pipelines.prepare.text_examples import TextExamplesJob
from pipelines.text.bert_examples import ExampleSettings
from pipelines.text.documents import Document, find_units, to_json
from pipelines.text.wordpiece import SPECIAL_TOKENS, write_vocabulary

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(text_examples.__file__)))
PAD, UNKNOWN, CLS, SEP, MASK = range(5)
WORDS = [f"{'##' if number % 3 == 2 else ''}w{number}" for number in range(400)]
VOCABULARY = [*SPECIAL_TOKENS, *WORDS]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder with `docs-0`, `docs-1` and `vocab.txt`."""
    folder = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    plain = [word for word in WORDS if not word.startswith("##")]
    vocabulary = [*SPECIAL_TOKENS, ".", *plain]
    for file in range(2):
        lines = []
        for _ in range(30):
            sentences = [" ".join(random.choice(plain, 7)).capitalize() + "." for _ in range(8)]
            lines.append(to_json(Document("", (" ".join(sentences),))) + b"\n")
        (folder / f"docs-{file}").write_bytes(b"".join(lines))
    write_vocabulary(str(folder / "vocab.txt"), vocabulary)
    return folder


class _File(list):
    """Takes records as a `RecordFile` does."""

    def write(self, *records):
        self.extend(records)


def job(corpus, unit_bytes=3000, **settings):
    settings = {"max_length": 32, "max_predictions": 5, "seed": 0, "duplication": 2} | settings
    pattern = f"{corpus}/docs-*"
    vocabulary = tuple((corpus / "vocab.txt").read_text().split())
    units = find_units(pattern, unit_bytes=unit_bytes)
    return TextExamplesJob(pattern, units, vocabulary, True, ExampleSettings(**settings))


def made(job, shards):
    """The records of each shard, and the counts of all."""
    job = pickle.loads(pickle.dumps(job))  # as workers get it
    records, counts = [], collections.Counter()
    for shard in range(shards):
        file = _File()
        shard_counts, damaged = job.write_shard(shard, shards, file)
        assert not damaged
        counts.update(shard_counts)
        records.append(list(file))
    return records, counts


def test_examples_do_not_depend_on_the_number_of_shards(corpus):
    one = job(corpus)
    assert len(one.units) > 7
    (records,), counts = made(one, 1)
    assert counts["documents"] == 60
    for shards in (2, 3, len(one.units)):
        shard_records, shard_counts = made(one, shards)
        assert shard_counts == counts
        # Shard s holds the units s, s + n, ..., in order and whole.
        assert sorted(itertools.chain(*shard_records)) == sorted(records)
        assert all(shard_records)
    examples = [tf.train.Example.FromString(record).features.feature for record in records]
    masks = [example["input_mask"].int64_list.value for example in examples]
    labels = [example["next_sentence_labels"].int64_list.value[0] for example in examples]
    assert counts["tokens"] == sum(map(sum, masks))
    assert counts["random_next"] == sum(labels) and 0.3 < sum(labels) / len(labels) < 0.7
    assert made(job(corpus, seed=1), 1)[0] != [records]


def command(corpus, *flags):
    flags = {flag.partition("=")[0]: flag for flag in flags}
    defaults = (
        f"--documents={corpus}/docs-*", f"--vocabulary={corpus}/vocab.txt", "--shards=2",
        "--max_length=32", "--duplication=2", "--unit_megabytes=0.003",
    )  # fmt: skip
    flags = {flag.partition("=")[0]: flag for flag in defaults} | flags
    argv = [*flags.values(), "--", "--direct_num_workers=1"]
    return command_line.run(text_examples.main, argv)


def test_command(corpus, tmp_path, capfd):
    output = tmp_path / "new" / "text"
    assert command(corpus, f"--output={output}", "--whole_word", "--seed=4") == 0
    manifest = json.loads((tmp_path / "new" / "text.manifest.json").read_text())
    assert manifest["kind"] == "text examples" and manifest["counts"]["documents"] == 60
    assert manifest["settings"]["max_predictions"] == 4  # 15 % of 29
    expected, counts = made(
        job(corpus, unit_bytes=3146, whole_word=True, seed=4, max_predictions=4), 2
    )
    files = [f"{output}-0000{shard}-of-00002" for shard in range(2)]
    assert [[r.numpy() for r in tf.data.TFRecordDataset(file)] for file in files] == expected
    assert f"{counts['tokens']:,} tokens" in capfd.readouterr().err


def test_documents_are_not_overwritten(corpus, tmp_path, capfd):
    """Google's BERT has no manifest that would tell documents from examples."""
    for place in range(2):
        shutil.copy(corpus / f"docs-{place}", tmp_path / f"docs-0000{place}-of-00002")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    flags = f"--documents={tmp_path}/docs-*-of-*", f"--output={tmp_path}/docs"
    assert command(corpus, *flags) == 2
    assert f"{tmp_path}/docs: would overwrite" in capfd.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert command(corpus, *flags, f"--output={tmp_path}/examples") == 0

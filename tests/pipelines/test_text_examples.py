import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from pipelines import command_line, text_examples
from pipelines.text.documents import Document, to_json
from pipelines.text.wordpiece import SPECIAL_TOKENS, write_vocabulary

WORDS = [f"w{number}" for number in range(300)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder with `docs-0`, `docs-1` and `vocab.txt`."""
    folder = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    for file in range(2):
        lines = []
        for _ in range(30):
            sentences = [" ".join(random.choice(WORDS, 7)).capitalize() + "." for _ in range(8)]
            lines.append(to_json(Document("", (" ".join(sentences),))) + b"\n")
        (folder / f"docs-{file}").write_bytes(b"".join(lines))
    write_vocabulary(str(folder / "vocab.txt"), [*SPECIAL_TOKENS, ".", *WORDS])
    return folder


def command(corpus, output, *flags, documents=None):
    argv = [
        *(f"--documents={documents or corpus}/docs-*", f"--vocabulary={corpus}/vocab.txt"),
        *(f"--output={output}", "--max_length=32", "--duplication=2", "--unit_megabytes=0.002"),
    ]
    argv += ["--shards=2", *flags, "--", "--direct_num_workers=1"]
    return command_line.run(text_examples.main, argv)


def made(prefix):
    """The records of all shards, and the manifest."""
    files = sorted(map(str, prefix.parent.glob(f"{prefix.name}-*-of-*")))
    records = [[record.numpy() for record in tf.data.TFRecordDataset(file)] for file in files]
    return records, json.loads(prefix.with_name(f"{prefix.name}.manifest.json").read_text())


def test_examples_do_not_depend_on_the_number_of_shards(corpus, tmp_path):
    outputs = []
    for shards in (1, 3):
        assert command(corpus, tmp_path / f"x{shards}", f"--shards={shards}", "--whole_word") == 0
        outputs.append(made(tmp_path / f"x{shards}"))
    ([one], manifest), (three, other) = outputs
    counts = manifest["counts"]
    assert sorted(one) == sorted(sum(three, [])) and all(three) and other["counts"] == counts
    settings = {"max_predictions": 4, "whole_word": True}  # 15 % of 29
    assert settings.items() <= manifest["settings"].items() and manifest["settings"]["units"] > 7
    examples = [tf.train.Example.FromString(record).features.feature for record in one]
    labels = [example["next_sentence_labels"].int64_list.value[0] for example in examples]
    tokens = sum(sum(example["input_mask"].int64_list.value) for example in examples)
    assert manifest["kind"] == "text examples"
    assert (counts["documents"], counts["tokens"], counts["random_next"]) == (
        (60, tokens, sum(labels))
    )
    assert 0.3 < np.mean(labels) < 0.7
    assert command(corpus, tmp_path / "seed", "--shards=1", "--whole_word", "--seed=1") == 0
    assert made(tmp_path / "seed")[0] != [one]


def test_documents_are_not_overwritten(corpus, tmp_path, capfd):
    """Google's BERT has no manifest that would tell documents from examples."""
    for place in range(2):
        shutil.copy(corpus / f"docs-{place}", tmp_path / f"docs-0000{place}-of-00002")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert command(corpus, tmp_path / "docs", documents=tmp_path) == 2
    assert f"{tmp_path}/docs: would overwrite" in capfd.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

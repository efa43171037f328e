"""Every command line and every flag in the documents would be taken as it stands there."""

import re

import pytest

from tests.documents import command_lines
from tests.documents.markdown import DOCUMENTS, Piece, commands

PROGRAMS = "|".join(("python3?", *command_lines.UNCHECKED))
PROGRAMS = re.compile(rf"(\.venv/bin/)?({PROGRAMS})$|tpu/vm/|\.ci/")


def command_lines_of(document):
    """(place, words) of the commands in blocks of shell and in code spans."""
    for block in document.blocks("sh"):
        for words in commands(block):
            yield block.where, words
    for span in document.spans():
        if PROGRAMS.match(span.text.split()[0]) and " " in span.text:
            for words in commands(span):
                # `python -m NAME` in a sentence is a name, and need not be a whole command.
                yield span.where, words if words[-2] != "-m" else [*words, "..."]


LINES = [line for document in DOCUMENTS for line in command_lines_of(document)]


@pytest.mark.parametrize(("where", "words"), LINES)
def test_command_lines(where, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where nothing is in the way of what would be written
    (tmp_path / "DIR" / "train").mkdir(parents=True)  # what the reader has
    (tmp_path / "other.csv").write_text("text,label\na,b\n")
    command_lines.check(words)


def test_flags_in_sentences():
    spans = [span for document in DOCUMENTS for span in document.spans() if span.text[:2] == "--"]
    flags = [(s.where, word) for s in spans for word in s.text.split() if re.match(r"--\w", word)]
    assert len(flags) > 40
    assert not [flag for flag in flags if not command_lines.is_flag(flag[1])]
    assert not command_lines.is_flag("--config.image_batches=3")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("python -m keras_vitbert.pretrain --config.optimizer.rate=1 ...", "optimizer.rate"),
        ("python -m keras_vitbert.export --checkpoint=DIR", "--output_dir is missing"),
        ("python -m keras_vitbert.trian ...", "no module keras_vitbert.trian"),
        ("tpu/vm/run.sh --name=a --zone=b --tpu=v3-8 -- -m keras_vitbert.pretrain --x=1", "'x'"),
        ('pip install -e ".[tests]"', "no extra tests"),
        ("make test", "make"),
    ],
)
def test_wrong_lines_are_found(line, reason):
    [words] = commands(Piece("here", line))
    with pytest.raises(command_lines.Wrong, match=re.escape(reason)):
        command_lines.check(words)


def test_keys_in_tables():
    tables = [table for document in DOCUMENTS for table in document.tables()]
    named = [row[0] for header, _, *rows in tables if header[0] == "key" for row in rows]
    assert named
    for key in [key for name in named for key in re.findall("`([^`]+)`", name)]:
        assert key in command_lines.config_keys()

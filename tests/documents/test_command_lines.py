"""Every command line and every flag in the documents would be taken as it stands there."""

import re

import pytest

from tests.documents import command_lines
from tests.documents.markdown import DOCUMENTS, ROOT, Piece, commands

PROGRAMS = "|".join(("python3?", "pip", "pytest", "bash", *command_lines.UNCHECKED))
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
FLAGS = [
    (span.where, word)
    for document in DOCUMENTS
    for span in document.spans()
    if span.text.startswith("--")
    for word in span.text.split()
    if re.match(r"--\w", word)
]


def check_all(check, items):
    """Fails with a line for each of (place, item) that `check` refuses."""
    found = []
    for where, item in items:
        try:
            check(item)
        except command_lines.Wrong as error:
            found.append(f"{where}: {item}: {error}")
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def test_command_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where nothing is in the way of what would be written
    (tmp_path / "DIR" / "train").mkdir(parents=True)  # what the reader has
    (tmp_path / "other.csv").write_text("text,label\na,b\n")
    assert len(LINES) > 60
    check_all(command_lines.check, LINES)


def test_flags_in_sentences():
    assert len(FLAGS) > 40
    check_all(command_lines.check_flag, FLAGS)


def test_what_is_not_checked_is_still_needed():
    programs = {words[0].removeprefix(".venv/bin/") for _, words in LINES}
    modules = {words[2] for _, words in LINES if words[1:2] == ["-m"]}
    assert set(command_lines.UNCHECKED) <= programs
    assert set(command_lines.UNCHECKED_MODULES) <= modules


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("python -m keras_vitbert.pretrain --varient=vit", "varient"),
        ("python -m keras_vitbert.pretrain --config.optimizer.rate=1 ...", "optimizer.rate"),
        ("python -m keras_vitbert.pretrain --config.steps=many", "steps"),
        ("python -m keras_vitbert.finetune --checkpoint=D --task=pets --config.bach=1", "batch"),
        ("python -m keras_vitbert.export --checkpoint=DIR", "--output_dir is missing"),
        ("python -m keras_vitbert.trian ...", "no module keras_vitbert.trian"),
        ("python -m pipelines.books --folders=books ...", "folders"),
        ("python -m keras_vitbert.aot --tpu=v3-129", "v3-128"),
        ("python -m benchmarks --quickly", "--quickly"),
        ("tpu/vm/run.sh --name=a --zone=b --tpu=v3-8 -- -m keras_vitbert.pretrain --x=1", "'x'"),
        ('pip install -e ".[tests]"', "no extra tests"),
        ("python -m pytest tests/test_nothing.py", "no file tests/test_nothing.py"),
        ("make test", "make"),
    ],
)
def test_wrong_lines_are_found(line, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [words] = commands(Piece("here", line))
    with pytest.raises(command_lines.Wrong, match=re.escape(reason)):
        command_lines.check(words)


@pytest.mark.parametrize("flag", ["--sweeps", "--config.image_batches=3", "--nocashe"])
def test_wrong_flags_are_found(flag):
    with pytest.raises(command_lines.Wrong):
        command_lines.check_flag(flag)


def test_keys_in_tables():
    keys = command_lines.pretraining_keys()
    tables = [table for document in DOCUMENTS for table in document.tables()]
    named = [row[0] for header, _, *rows in tables if header[0] == "key" for row in rows]
    assert named
    for key in [key for name in named for key in re.findall("`([^`]+)`", name)]:
        assert key in keys


def test_the_lines_that_ci_runs():
    """`.ci/run` reads these blocks from the README, by this very form."""
    form = re.compile(r"^<!-- ci: (\w+) -->\n```sh\n(.+?)^```$", re.MULTILINE | re.DOTALL)
    blocks = dict(form.findall((ROOT / "README.md").read_text()))
    default = re.search(r"^\(\(\$#\)\) \|\| set -- (.*)$", (ROOT / ".ci" / "run").read_text(), re.M)
    assert set(blocks) == set(default[1].split())
    assert all(len(block.splitlines()) == 1 for block in blocks.values())

import itertools
import pathlib
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.shards import shard_files, shard_manifest
from pipelines.text.documents import Document, find_units, read_unit, to_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
# A line of the plain format: it has something in it, at both ends, and no line break.
WORD = st.text(
    st.sampled_from("aé𝔘漢{}\\ \t\u2028\x85\x0b\x1c.") | st.characters(exclude_categories=["Cs"]),
    max_size=12,
)
LINE = st.builds(lambda text: f"x{text}x".replace("\n", "").replace("\r", ""), WORD)
BLANK = st.sampled_from(["\n", "\r\n", " \n", "\t \r\n"])
BLANKS = st.lists(BLANK, min_size=1, max_size=3).map("".join)
UNIT_BYTES = st.integers(1, 200)
QUICK = settings(max_examples=40, deadline=None)


def read_back(contents, unit_bytes, damaged=None):
    """What is read from files of these bytes."""
    with tempfile.TemporaryDirectory() as folder:
        for number, content in enumerate(contents):
            (pathlib.Path(folder) / f"part-{number:03d}").write_bytes(content)
        units = find_units(f"{folder}/part-*", unit_bytes=unit_bytes)
        return [document for unit in units for document in read_unit(unit, damaged)]


DOCUMENT = st.builds(Document, TEXT, st.lists(TEXT, max_size=4).map(tuple))


@QUICK
@given(
    st.lists(st.lists(DOCUMENT, max_size=5), min_size=1, max_size=4),
    st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n \n"]),
    st.booleans(),
    UNIT_BYTES,
)
def test_json_documents_come_once_and_in_order(files, line_break, ends, unit_bytes):
    contents = [line_break.join(map(to_json, documents)) for documents in files]
    contents = [content + (line_break if ends else b"") for content in contents]
    if any(contents):
        assert read_back(contents, unit_bytes) == [*itertools.chain(*files)]


PLAIN = st.lists(st.tuples(st.lists(LINE, min_size=1, max_size=4), BLANKS), max_size=5)
START, BREAK = st.sampled_from(["", "\n", "\r\n \n"]), st.sampled_from(["\n", "\r\n"])
FILES = st.lists(st.tuples(PLAIN, START, BREAK, st.booleans()), min_size=1, max_size=3)


@QUICK
@given(FILES, UNIT_BYTES)
def test_plain_documents_come_once_and_in_order(files, unit_bytes):
    contents, expected = [], []
    for documents, start, line_break, is_cut in files:
        content = start
        for lines, blanks in documents:
            expected.append(Document("", tuple(lines), split=True))
            content += "".join(line + line_break for line in lines) + blanks
        contents.append((content.rstrip("\r\n \t") if is_cut else content).encode())
    if any(contents):
        assert read_back(contents, unit_bytes) == expected


@pytest.mark.parametrize("content", [b"[1]", b'["\xff"]', b'["\\ud800"]', b'["x"', b"[" * 100_000])
def test_damaged_lines_are_named_or_left_out(content):
    good, line = b'{"paragraphs": ["x"]}\n', b'{"paragraphs": ' + content
    damaged = []
    assert len(read_back([good + line + b"}\n" + good], 1000, damaged)) == 2
    assert [(d["file"][-3:], d["record"]) for d in damaged] == [("000", len(good))]
    assert damaged[0]["reason"] and "\n" not in damaged[0]["reason"]
    with pytest.raises(ValueError, match=f"part-000: the line at byte {len(good)} "):
        read_back([good + line], 1000)


def test_unfinished_files_and_those_of_another_run_are_refused(tmp_path):
    """An unfinished run may have left shards beside those of a finished one."""
    for name in ("books-00000-of-00001", "books-00000-of-00002", "other"):
        with shard_files.LineFile(tmp_path / name) as file:
            file.write(to_json(Document("", (name,))))
        if name == "books-00000-of-00001":
            shard_manifest.write_manifest(tmp_path / "books", "documents", [file.entry], {})
    with pytest.raises(ValueError, match="books-00000-of-00002: .*/books.manifest.json"):
        find_units(str(tmp_path / "*"))
    (tmp_path / "books-00000-of-00002").rename(tmp_path / "wiki-00000-of-00002")
    (unit,) = find_units(str(tmp_path / "*"))  # without the manifest itself
    assert len(list(read_unit(unit))) == 3
    (tmp_path / "wiki.progress").mkdir()
    with pytest.raises(ValueError, match="wiki: is not finished"):
        find_units(str(tmp_path / "wiki-*"))

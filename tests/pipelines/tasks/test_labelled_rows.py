"""Labelled sentences: which columns are taken, and what is said of tables that are wrong."""

import pytest

from pipelines.tasks import labelled_rows
from pipelines.tasks.tables import open_table


def read_rows(path, *flags, **more):
    return labelled_rows.read_rows([open_table(path)], *flags, **more)


@pytest.fixture
def write(tmp_path):
    """`write(lines, name="train.tsv") -> path`."""

    def write(lines, name="train.tsv"):
        path = tmp_path / name
        path.write_bytes("".join(f"{line}\n" for line in lines).encode())
        return str(path)

    return write


def test_quotes_and_odd_characters_belong_to_their_sentence(write):
    sentences = ['" open', 'a "b" c', "line\u2028separator", "next\x85line", "form\x0cfeed", "ünï"]
    path = write(["sentence\tlabel", *(f"{s}\t{n}" for n, s in enumerate(sentences))])
    rows = read_rows(path)
    assert rows.first == tuple(sentences) and rows.labels == tuple("012345")


def test_lines_with_other_numbers_of_fields(write):
    path = write(["sentence\tlabel", "good\t1", "bad 0", "fine\t1", "so\tso\t1"])
    with pytest.raises(ValueError, match="train.tsv, line 3: "):
        read_rows(path)
    with pytest.raises(ValueError, match="train.tsv, line 5: "):
        read_rows(path, skip_damaged=1)
    rows = read_rows(path, skip_damaged=2)
    assert rows.first == ("good", "fine") and len(rows.left_out) == 2
    assert ", line 5:" in rows.left_out[1]


@pytest.mark.parametrize(
    ("lines", "columns", "culprit"),
    [
        (["sentence\tid\tkind", "a\t1\t2"], (), "label, .* data.label_column$"),
        (["words\tid\tlabel", "a\t1\t2"], (), "data.sentence_columns$"),
        (["sentence\tlabel", "a\t1", "b\t"], (), ", line 3: .*label"),
        (["sentence\tlabel", "a\t1"], (["label"], ""), "'label' is the label and a sentence"),
    ],
)
def test_files_that_are_wrong(write, lines, columns, culprit):
    with pytest.raises(ValueError, match=f"train.tsv.*{culprit}"):
        read_rows(write(lines), *columns)


@pytest.mark.parametrize(
    ("header", "sentences", "label"),
    [
        ("id\treview\tstars\tsentiment", ("review",), "sentiment"),
        ("words\tlabel", ("words",), "label"),  # the other one of two
        # Of GLUE: QNLI, MNLI and MRPC.
        ("index\tquestion\tsentence\tlabel", ("question", "sentence"), "label"),
        ("genre\tsentence1_parse\tsentence1\tsentence2\tlabel1\tgold_label",
         ("sentence1", "sentence2"), "gold_label"),
        ("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", ("#1 String", "#2 String"), "Quality"),
    ],
)  # fmt: skip
def test_columns_that_are_found_by_themselves(write, header, sentences, label):
    rows = read_rows(write([header, header.upper()]))
    assert (rows.sentence_columns, rows.label_column) == (sentences, label)
    assert rows.labels == (label.upper(),) and rows.first == (sentences[0].upper(),)
    assert rows.second == ((sentences[1].upper(),) if len(sentences) > 1 else None)


def test_a_split_of_several_tables(write):
    paths = [write(["sentence\tlabel", f"a{n}\t1", f"b{n}\t0"], f"{n}.tsv") for n in range(2)]
    rows = labelled_rows.read_rows([open_table(path) for path in paths])
    assert rows.first == ("a0", "b0", "a1", "b1") and rows.labels == tuple("1010")
    assert list(rows.part([2, 0]).descriptions()) == [
        {"line": "1.tsv:2", "text": "a1"},
        {"line": "0.tsv:2", "text": "a0"},
    ]


def test_classes_are_in_the_order_of_their_numbers():
    long = "9" * 5_000  # digits: Python reads no such number
    names = ["10", "a", "9", long, "-3", "a1"]
    wanted = ["-3", "9", "10", long, "a", "a1"]
    assert labelled_rows.numbered(names, None, "x") == ([2, 4, 1, 3, 0, 5], wanted)
    with pytest.raises(ValueError, match="^x: 'b'"):
        labelled_rows.numbered(["b"], wanted, "x")

"""Labelled sentences: which columns are taken, and what is said of tables that are wrong."""

import csv

import pytest

from pipelines.tasks import labelled_rows
from pipelines.tasks.tables import open_table


def read_rows(path, *flags, **more):
    return labelled_rows.read_rows([open_table(path)], *flags, **more)


@pytest.fixture
def write(tmp_path):
    """`write(lines, name="train.tsv") -> path`."""

    def write(lines, name="train.tsv", end="\n"):
        path = tmp_path / name
        path.write_bytes((end.join(lines) + end).encode())
        return str(path)

    return write


# GLUE's own headers, with a line of values a column.
HEADERS = {
    "qnli": ("index\tquestion\tsentence\tlabel", ["question", "sentence"], "label"),
    "mnli": (
        "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t"
        "sentence1_parse\tsentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label",
        ["sentence1", "sentence2"],
        "gold_label",
    ),
    "mrpc": (
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        ["#1 String", "#2 String"],
        "Quality",
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_the_columns_of_glue(write, name):
    header, sentences, label = HEADERS[name]
    columns = header.split("\t")
    path = write([header, *("\t".join(f"{c} {n}" for c in columns) for n in range(3))])
    rows = read_rows(path)
    with open(path, newline="") as file:
        expected = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert rows.first == tuple(row[sentences[0]] for row in expected)
    assert rows.labels == tuple(row[label] for row in expected)
    second = None if len(sentences) == 1 else tuple(row[sentences[1]] for row in expected)
    assert rows.second == second and len(rows.first) == 3


def test_quotes_and_odd_characters_belong_to_their_sentence(write):
    sentences = ['" open', 'a "b" c', "line\u2028separator", "next\x85line", "form\x0cfeed", "ünï"]
    path = write(["sentence\tlabel", *(f"{s}\t{n}" for n, s in enumerate(sentences))])
    rows = read_rows(path)
    assert rows.first == tuple(sentences) and rows.labels == tuple("012345")


def test_lines_with_other_numbers_of_fields(write, capsys):
    path = write(["sentence\tlabel", "good\t1", "bad 0", "fine\t1", "so\tso\t1"])
    with pytest.raises(ValueError, match="train.tsv, line 3: "):
        read_rows(path)
    with pytest.raises(ValueError, match="train.tsv, line 5: "):
        read_rows(path, skip_damaged=1)
    capsys.readouterr()
    rows = read_rows(path, skip_damaged=2)
    assert rows.first == ("good", "fine") and rows.left_out == 2
    told = capsys.readouterr().err.splitlines()
    assert [line.split(", ")[1].split(":")[0] for line in told] == ["line 3", "line 5"]


@pytest.mark.parametrize(
    ("lines", "columns", "culprit"),
    [
        (["sentence\tid\tkind", "a\t1\t2"], (), "label, .* data.label_column$"),
        (["words\tid\tlabel", "a\t1\t2"], (), "data.sentence_columns$"),
        (["sentence\tlabel", "a\t1"], (["text"], ""), "'text'"),
        (["sentence\tlabel"], (), "no examples"),
        (["sentence\tlabel", "a\t1", "b\t"], (), ", line 3: .*label"),
        (["sentence\tlabel", "a\tx\u2028y"], (), ", line 2: .*label"),
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
        ("comment\tspam", ("comment",), "spam"),
        ("title\tbody\tcategory", ("body",), "category"),
    ],
)
def test_columns_that_are_found_by_themselves(write, header, sentences, label):
    rows = read_rows(write([header, "\t".join("abcd"[: header.count("\t") + 1])]))
    assert (rows.sentence_columns, rows.label_column) == (sentences, label)


def test_a_split_of_several_tables(write):
    paths = [write(["sentence\tlabel", f"a{n}\t1", f"b{n}\t0"], f"{n}.tsv") for n in range(2)]
    rows = labelled_rows.read_rows([open_table(path) for path in paths])
    assert rows.first == ("a0", "b0", "a1", "b1") and rows.labels == tuple("1010")
    assert rows.places == ("0.tsv:2", "0.tsv:3", "1.tsv:2", "1.tsv:3")
    part = rows.part([2, 0])
    assert list(part.descriptions()) == [
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

"""Tables of each form, against the programs that write them."""

import csv
import json
import math

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from pipelines.tasks.tables import open_saved, open_table

ROWS = [
    {"id": 0, "review": 'He said "no", twice.', "stars": "5"},
    {"id": 1, "review": "two\nlines, and ünï", "stars": "1"},
    {"id": 2, "review": "", "stars": "3"},
]


def values_of(table, names):
    rows = list(table.read(names))
    assert not [row.damage for row in rows if row.damage]
    return [row.values for row in rows]


def write_csv(path, delimiter):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(ROWS[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(ROWS)


LINES = [json.dumps(row, ensure_ascii=False) for row in ROWS]
# By name of a file: what writes it, and the numbers of its rows.
FORMS = {
    "comma.csv": (lambda path: write_csv(path, ","), [2, 3, 5]),  # the second takes two lines
    "semicolon.csv": (lambda path: write_csv(path, ";"), [2, 3, 5]),
    "list.json": (lambda path: path.write_text(f"[{','.join(LINES)}]"), [1, 2, 3]),
    "lines.jsonl": (lambda path: path.write_text("\n\n".join(LINES) + "\n"), [1, 3, 5]),
    "x.parquet": (
        lambda path: pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path),
        [1, 2, 3],
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_rows(tmp_path, name):
    write, numbers = FORMS[name]
    write(tmp_path / name)
    table = open_table(str(tmp_path / name))
    assert table.columns == ["id", "review", "stars"]
    wanted = [[str(row["id"]), row["review"]] for row in ROWS]
    assert values_of(table, ["id", "review"]) == wanted
    assert [row.number for row in table.read(["id"])] == numbers


def test_values_that_are_not_texts(tmp_path):
    path = tmp_path / "x.jsonl"
    values = [True, 1, 1.0, 1.5, None, ["a"], {"a": 1}]
    path.write_text("".join(json.dumps({"a": value}) + "\n" for value in values) + "{no\n[1]\n")
    rows = list(open_table(str(path)).read(["a"]))
    assert [row.values for row in rows[:5]] == [["true"], ["1"], ["1"], ["1.5"], [None]]
    assert len(rows) == 9 and all(row.damage for row in rows[5:])


def test_nan_is_a_missing_value(tmp_path):
    """So pandas writes one, also in a column of numbers."""
    rows = [{"a": "x", "b": 1.0}, {"a": math.nan, "b": math.nan}, {"a": "nan", "b": 0.0}]
    (tmp_path / "x.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    table = pyarrow.table({"a": ["x", None, "nan"], "b": [1.0, math.nan, 0.0]})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    for name in ("x.jsonl", "x.parquet"):
        found = values_of(open_table(str(tmp_path / name)), ["a", "b"])
        assert found == [["x", "1"], [None, None], ["nan", "0"]]


def test_data_sets_of_hugging_face(tmp_path):
    """The names of the classes, images, and a data set of which a part was taken."""
    datasets = pytest.importorskip("datasets")
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    data = datasets.Dataset.from_dict({"image": [image] * 4, "label": [1, 0, -1, 1]}, features)
    data = data.select([3, 1, 2])
    data.save_to_disk(tmp_path / "saved")
    data.to_parquet(tmp_path / "x.parquet")
    for table in open_saved(str(tmp_path / "saved")), open_table(str(tmp_path / "x.parquet")):
        assert table.image_columns == ["image"]
        values = values_of(table, ["image", "label"])
        assert [label for _, label in values] == ["dog", "cat", None]
        assert all(encoded.startswith(b"\x89PNG") for encoded, _ in values)


@pytest.mark.parametrize(
    ("name", "content", "culprit"),
    [
        ("x.csv", b'a,b\n1,"2\n', "x.csv, line 2: "),
        ("x.csv", b"a,b,a\n", "x.csv: .* 2 columns 'a'"),
        ("x.jsonl", b'{"a": "\\ud800"}\n', "surrogate"),
        ("x.parquet", b"PAR1 no", "x.parquet: "),
        ("x.json", b"[1, 2", "x.json: "),
        ("x.xlsx", b"", "x.xlsx: "),
    ],
)
def test_files_that_are_wrong(tmp_path, name, content, culprit):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=culprit):
        table = open_table(str(path))
        for row in table.read(table.columns):
            if row.damage:
                raise ValueError(row.damage)

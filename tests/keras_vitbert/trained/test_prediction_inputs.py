"""What `predict` is asked about, from files and flags."""

import pytest

from keras_vitbert.trained.predicting import Item, image_items, table_items


def test_images_below_a_folder_come_by_their_names(tmp_path):
    for name in (
        "b10.PNG",
        "b9.PNG",
        "a/c.jpg",
        "a/b/d.jpeg",
        "a.gif",
        "z.webp",
        "notes.txt",
        "jpg",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    items = list(image_items(str(tmp_path)))
    names = ["a.gif", "b9.PNG", "b10.PNG", "z.webp", "a/c.jpg", "a/b/d.jpeg"]
    # As in the predictions of a fine-tuned run.
    assert [item.inputs for item in items] == [{"image": name} for name in names]
    assert [item.where for item in items] == [f"{tmp_path}/{name}" for name in names]
    assert list(image_items(f"{tmp_path}/")) == items
    assert [item.value() for item in items] == [name.encode() for name in names]
    assert {item.length for item in items} == {0}
    # One that is named is taken, whatever it is called.
    [item] = image_items(str(tmp_path / "notes.txt"))
    assert item.value() == b"notes.txt" and item.where == f"{tmp_path}/notes.txt"


def test_images_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"holds no file named \.jpeg"):
        image_items(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        Item({"image": str(tmp_path / "gone.jpg")}, "x").value()


def test_lines_of_a_tsv_file(tmp_path):
    """They end at line feeds alone; fields lose the spaces about them."""
    path = tmp_path / "x.tsv"
    lines = ["id\tsentence2\tsentence1", "0\tsat\u2028down\t the cat ", "1\t\tb\x0bc", "2\tx\t"]
    for end in ("\r\n",):
        path.write_bytes(b"\xef\xbb\xbf" + end.join([*lines, "", ""]).encode())
        items = table_items(str(path))
        assert [item.value() for item in items] == [
            ["the cat", "sat\u2028down"],
            ["b\x0bc", ""],
            ["", "x"],
        ]
        assert [item.where for item in items] == [f"{path}, line {n}" for n in (2, 3, 4)]
        assert [item.length for item in items] == [15, 3, 1]
    assert [item.value() for item in table_items(str(path), ["id"])] == ["0", "1", "2"]
    assert table_items(str(path), ("sentence2", "id"))[0].value() == ["sat\u2028down", "0"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\tb\n1\t2\n", "columns"),
        (b"sentence\na\nb\tc\n", "line 3"),
    ],
)
def test_tsv_files_that_are_wrong(tmp_path, content, message):
    path = tmp_path / "x.tsv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path}.*{message}"):
        table_items(str(path))

"""What `predict` is asked about, from files and flags."""

import pytest

from keras_vitbert.trained.predicting import image_items, table_items


def test_images_below_a_folder_come_by_their_names(tmp_path):
    names = ["a.gif", "b9.PNG", "b10.PNG", "z.webp", "a/c.jpg", "a/b/d.jpeg"]
    for name in (*reversed(names), "notes.txt", "jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    items = list(image_items(f"{tmp_path}/"))
    # As in the predictions of a fine-tuned run.
    assert [item.inputs for item in items] == [{"image": name} for name in names]
    assert [item.where for item in items] == [f"{tmp_path}/{name}" for name in names]
    assert [item.value() for item in items] == [name.encode() for name in names]
    # One that is named is taken, whatever it is called.
    [item] = image_items(str(tmp_path / "notes.txt"))
    assert item.value() == b"notes.txt"
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"holds no file named \.jpeg"):
        image_items(str(tmp_path / "none"))


def test_columns_that_are_named_or_remembered(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("id\tsentence2\tsentence1\n0\tsat\t the cat \n1\t\tb\x0bc\n")
    values = [item.value() for item in table_items(str(path))]
    assert values == [["the cat", "sat"], ["b\x0bc", ""]]
    assert [item.value() for item in table_items(str(path), ["id"])] == ["0", "1"]
    both = ("sentence2", "id")
    assert table_items(str(path), both)[0].value() == ["sat", "0"]
    assert table_items(str(path), remembered=both)[0].value() == ["sat", "0"]
    assert table_items(str(path), remembered=["gone"])[0].value() == ["the cat", "sat"]

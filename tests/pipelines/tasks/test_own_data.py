"""Which splits are found in a folder, and of what."""

import pytest

from pipelines.tasks.own_data import FOLDERS, RECORDS, SAVED, TABLES, find_splits, kind_of

TEXTS = "text,label\nfine,1\n"


def make(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return str(folder)


@pytest.mark.parametrize(
    ("names", "form", "splits", "kind"),
    [
        (["train/a/1.jpg", "val/a/1.jpg", "test/a/2.JPG"], FOLDERS, "train test validation", 0),
        (["a/1.jpg", "b/2020/2.png", ".x/3.png"], FOLDERS, "train", 0),
        (["train-00000-of-00002", "validation-00000-of-00001"], RECORDS, "train validation", 0),
        (["Train.tsv", "dev_matched.tsv", "dev_mismatched.tsv"], TABLES,
         "train validation_matched validation_mismatched", 1),
        (["reviews.csv", "settings.json"], TABLES, "train", 1),
    ],
)  # fmt: skip
def test_the_splits_of_a_folder(tmp_path, names, form, splits, kind):
    folder = make(tmp_path, dict.fromkeys(names, TEXTS))
    found = find_splits(folder)
    assert list(found) == splits.split() and {place.form for place in found.values()} == {form}
    assert kind_of(found) == ("images", "text")[kind]


def test_a_table_of_images(tmp_path):
    tables = {"x.csv": "file,label\na/1.JPG,cat\n", "y.csv": "path,text,label\na.png,b,c"}
    folder = make(tmp_path, tables)
    assert kind_of(find_splits("", {"train": f"{folder}/x.csv"})) == "images"
    with pytest.raises(ValueError, match="y.csv: has images and texts"):
        kind_of(find_splits("", {"train": f"{folder}/y.csv"}))
    for asked in ("images", "text"):  # by the flag that names it
        assert kind_of(find_splits(f"{folder}/y.csv"), asked) == asked


def test_data_sets_of_hugging_face(tmp_path):
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]})
    datasets.DatasetDict(train=data, test=data).save_to_disk(tmp_path)
    found = find_splits(str(tmp_path))
    assert list(found) == ["train", "test"] and kind_of(found) == "text"
    assert {place.form for place in found.values()} == {SAVED}


@pytest.mark.parametrize(
    ("names", "culprit"),
    [
        (["train.csv", "train.tsv"], "holds both train.csv and train.tsv"),
        (["train/a/1.jpg", "val/a/1.jpg", "dev/a/1.jpg"], "holds both dev and val"),
        (["oxford/3.0/x.tfrecord"], ""),
        (["a.csv", "b.csv"], ""),  # which of them?
    ],
)
def test_folders_that_mean_two_things_or_none(tmp_path, names, culprit):
    folder = make(tmp_path, dict.fromkeys(names, TEXTS))
    with pytest.raises(ValueError, match=f"^{folder}: {culprit}"):
        find_splits(folder)
    if not culprit:
        assert find_splits(folder, anything=False) == {}

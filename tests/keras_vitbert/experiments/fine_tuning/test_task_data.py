"""The splits of a task from each kind of data."""

import csv
import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_vitbert.configs import fine_tuning
from keras_vitbert.experiments.fine_tuning.task_data import cut, open_task
from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from pipelines.images.image_records import ImageRecordFiles
from pipelines.images.image_views import ImageViews
from pipelines.shards.records import RecordFiles
from pipelines.shards.shard_files import to_example, write_shards
from pipelines.tasks.labelled_images import LabelledImages
from tests.keras_vitbert.tiny_runs import VOCABULARY
from tests.keras_vitbert.tiny_tasks import CLASSES, write_images, write_texts


def open_data(name, data_dir="", files=None, skip_damaged=0, **changes):
    config = fine_tuning.get_config(name, TASKS[name].kind).with_values(changes)
    return open_task(
        *(TASKS[name], config, VOCABULARY, 12, str(data_dir)),
        files=files,
        skip_damaged=skip_damaged,
    )


def test_text_of_tfds(tmp_path):
    """TFDS' schema, with noise for content; TFDS makes a folder that it downloads to."""
    folder, config = str(tmp_path / "new"), fine_tuning.get_config("qnli", "text")
    with tfds.testing.mock_data(num_examples=5):
        data = open_task(TASKS["qnli"], config, VOCABULARY, 12, folder, download=True)
    assert {n: s.count for n, s in data.tests.items()} == {"validation": 5}
    assert len(data.classes) == 2 and data.train.bucket_boundaries == (12,)


def test_all_splits_are_reported_the_test_split_first(tmp_path):
    counts = {"train": 6, "validation": 4, "test": 5}
    data = open_data("images", write_images(tmp_path, counts=counts))
    found = {name: split.count for name, split in data.tests.items()}
    assert list(found.items()) == [("test", 5), ("validation", 4)]
    # Rates are picked on the other one.
    assert data.selection is data.tests["validation"] and data.picked_on == "validation"


def test_a_test_split_without_labels_is_left_out(tmp_path):
    write_texts(tmp_path, counts={"train": 12, "dev": 5})
    (tmp_path / "test.tsv").write_text("index\tsentence1\tsentence2\n0\ta\tb\n")
    data = open_data("texts", tmp_path)
    assert list(data.tests) == ["validation"] and data.selection is None
    [notice] = data.notices
    assert notice.kind == "unlabelled" and "test.tsv" in str(notice)
    with pytest.raises(ValueError, match="test.tsv"):
        open_data("texts", tmp_path, files={"test": str(tmp_path / "test.tsv")})


def test_images_of_tables(tmp_path):
    """The same images as files of a folder, by a table of their paths, and in a table."""
    folder = write_images(tmp_path / "folder", counts={"train": 9})
    files = sorted((folder / "train").glob("*/*.jpg"))
    rows = [
        "name,kind,file",
        *(f"x,{f.parent.name},folder/train/{f.parent.name}/{f.name}" for f in files),
    ]
    (tmp_path / "x.csv").write_text("\n".join(rows) + "\n")
    cells = {"image": [f.read_bytes() for f in files], "kind": [f.parent.name for f in files]}
    pyarrow.parquet.write_table(pyarrow.table(cells), tmp_path / "x.parquet")

    def evaluated(**where):
        data = open_data("images", image_size=12, **{"data.label_column": "kind"}, **where)
        [batch] = LabelledImages.evaluation(data.train, 16).as_numpy_iterator()
        there = batch["weights"] > 0
        return data, batch["images"][there], batch["labels"][there]

    wanted, images, labels = evaluated(data_dir=folder)
    for name in ("x.csv", "x.parquet"):
        data, found, found_labels = evaluated(files={"train": str(tmp_path / name)})
        assert data.classes == wanted.classes == CLASSES
        # A tenth is held out of each, by the same order of as many images.
        np.testing.assert_array_equal(found, images)
        np.testing.assert_array_equal(found_labels, labels)
    (tmp_path / "x.csv").write_text("\n".join([*rows, "x,red,gone.jpg"]) + "\n")
    with pytest.raises(ValueError, match="x.csv, line 11"):
        evaluated(files={"train": str(tmp_path / "x.csv")})


def test_a_part_that_is_cut_is_no_longer_in_the_rest(tmp_path):
    data = open_data("texts", write_texts(tmp_path, counts={"train": 40, "dev": 5}))
    rest, part = cut(data.train, 0.25)
    assert (rest.count, part.count) == (30, 10)

    def texts(split):
        ends = split.starts.tolist()
        return [tuple(split.tokens[a:b]) for a, b in zip(ends, ends[1:], strict=False)]

    assert sorted(texts(rest) + texts(part)) == sorted(texts(data.train))
    with pytest.raises(ValueError, match="validation_fraction"):
        cut(data.train, 0.01)
    again = cut(data.train, 0.25)[1]
    assert texts(again) == texts(part) and texts(part) != texts(data.train)[30:]


def test_copies_stay_on_one_side(tmp_path):
    lines = [f"text {place % 30} of some\t{place % 2}" for place in range(60)]
    (tmp_path / "train.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n")
    texts = open_data("texts", tmp_path, validation_fraction=0.3)
    folder = write_images(tmp_path / "images", counts={"train": 12}) / "train"
    for file in sorted(folder.rglob("*.jpg")):
        for copy in "abc":
            (file.parent / f"{copy}{file.name}").write_bytes(file.read_bytes())
    images = open_data("images", folder, validation_fraction=0.3)
    for data, count in ((texts, 60), (images, 48)):
        train, held_out = data.train, data.tests["held_out"]
        assert train.count + held_out.count == count and abs(held_out.count - 0.3 * count) < 4
        keys = [getattr(s, "rows", None) or s.store for s in (train, held_out)]
        assert not set(keys[0].keys) & set(keys[1].keys)
        assert [notice.kind for notice in data.notices] == ["copies", "held_out"]


def test_a_class_without_a_training_example_is_told(tmp_path):
    lines = [f"text {place}\t{'rare' if place == 2 else place % 2}" for place in range(20)]
    (tmp_path / "train.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n")
    for fraction in np.arange(1, 10) / 10:  # with one of them it is held out
        notices = open_data("texts", tmp_path, validation_fraction=float(fraction)).notices
        if absent := [notice for notice in notices if notice.kind == "no_example"]:
            assert "rare" in absent[0].examples
            return
    raise AssertionError("the rare class was never held out")


def test_a_part_of_sorted_records_is_of_all_classes(tmp_path):
    """Users' own files may be sorted by class, and cut from their end the part would be of one."""
    count = 1003
    image = tf.io.encode_png(np.zeros((3, 3, 3), np.uint8)).numpy()
    labels = np.arange(count) * 4 // count
    examples = (to_example({"image/encoded": image, "image/class/label": n + 1}) for n in labels)
    write_shards(examples, str(tmp_path / "train"), 1)
    store = ImageRecordFiles(RecordFiles.find(f"{tmp_path}/train-*"), 4)
    views = ImageViews(3, crop_area=(1.0, 1.0), flip=False, central_crop=1.0)
    rest, part = cut(LabelledImages(store, views), 0.1)
    assert (rest.count, part.count) == (count - round(count / 10), round(count / 10))
    found = [
        np.bincount(np.concatenate([b["labels"][b["weights"] > 0] for b in split.evaluation(50)]))
        for split in (rest, part)
    ]
    np.testing.assert_array_equal(sum(found), np.bincount(labels))  # each in one of them
    np.testing.assert_allclose(found[1], np.bincount(labels) / 10, atol=1)


def test_splits_that_are_reported_in_part(tmp_path):
    folder = write_texts(tmp_path, counts={"train": 40, "dev": 12})
    assert open_data("texts", folder, test_examples=99).tests["validation"].count == 12
    part, again = (open_data("texts", folder, test_examples=5) for _ in range(2))
    assert (part.tests["validation"].count, part.train.count) == (5, 40)
    assert part.tests["validation"].sha256 == again.tests["validation"].sha256
    assert [(notice.kind, notice.split, notice.count) for notice in part.notices] == [
        ("in_part", "validation", 5)
    ]


LABELS = ["2", "10", "sky"]
TEST = {"test": 3}
# Forms of own data: where they are, a config's changes, and the examples of each split; of 24
# images and 30 texts a tenth is held out where nothing else is reported.
FORMS = {
    "class folders": ("images", "flat", {}, {"train": 22, "held_out": 2}),
    "folders of splits": ("images", "split", {}, {"train": 24, "test": 3, "validation": 6}),
    "table of images": (
        "images",
        {"train": "images.csv", "test": "split/test"},
        {},
        {"train": 24, **TEST},
    ),
    "images in Parquet": ("images", {"train": "images.parquet"}, {}, {"train": 22, "held_out": 2}),
    "records": ("images", "records", {}, {"train": 24, "validation": 3}),
    "saved images": ("images", "saved_images", {}, {"train": 24, **TEST}),
    "CSV": ("texts", "csv", {}, {"train": 30, **TEST}),
    "shards of CSV": ("texts", "shards", {}, {"train": 27, "held_out": 3}),
    "other columns": (
        "texts",
        {"train": "odd.csv"},
        {"data.sentence_columns": "b,a", "data.label_column": "c"},
        {"train": 27, "held_out": 3},
    ),
    "TSV of pairs": ("texts", "pairs", {}, {"train": 30, "validation": 3}),
    "a task's own TSV": ("rte", "pairs", {}, {"train": 30, "validation": 3}),
    "JSON lines": (
        "texts",
        {"train": "texts.jsonl", "validation": "csv/test.csv"},
        {},
        {"train": 30, "validation": 3},
    ),
    "JSON": ("texts", {"train": "texts.json"}, {}, {"train": 27, "held_out": 3}),
    "texts in Parquet": ("texts", {"train": "texts.parquet"}, {}, {"train": 27, "held_out": 3}),
    "saved texts": ("texts", "saved_texts", {}, {"train": 27, "held_out": 3}),
    "one file": ("texts", "texts.jsonl", {}, {"train": 27, "held_out": 3}),
}


def write_table(path, rows):
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """The folder of all forms but saved data sets, which need another package."""
    folder = tmp_path_factory.mktemp("forms")
    pixels = iter(np.random.default_rng(0).integers(0, 256, (60, 6, 7, 3), np.uint8))
    for split, count in {"flat": 8, "split/train": 8, "split/val": 2, "split/test": 1}.items():
        for label in LABELS:
            (folder / split / label).mkdir(parents=True)
            for number in range(count):
                file = folder / split / label / f"{number}.png"
                file.write_bytes(tf.io.encode_png(next(pixels)).numpy())
    files = sorted(folder.glob("flat/*/*.png"))
    images = [{"file": str(f.relative_to(folder)), "label": f.parent.name} for f in files]
    write_table(folder / "images.csv", images)
    cells = [{"image": f.read_bytes(), "label": f.parent.name} for f in files]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(cells), folder / "images.parquet")
    (folder / "records").mkdir()
    for split, part in (("train", files), ("validation", files[::8])):
        examples = (
            to_example(
                {
                    "image/encoded": file.read_bytes(),
                    "image/class/label": LABELS.index(file.parent.name) + 1,
                }
            )
            for file in part
        )
        write_shards(examples, str(folder / "records" / split), 2)
    (folder / "records" / "classes.txt").write_text("\n".join(LABELS) + "\n")

    texts = [{"text": f"word{n} of them", "label": LABELS[n % 3]} for n in range(33)]
    train, test = texts[:30], texts[30:]
    write_table(folder / "csv" / "train.csv", train)
    write_table(folder / "csv" / "test.csv", test)
    for number in range(2):
        write_table(folder / "shards" / f"train-0000{number}-of-00002.csv", train[number::2])
    write_table(
        folder / "odd.csv", [{"a": "x", "b": row["text"], "c": row["label"]} for row in train]
    )
    pairs = [{"sentence1": row["text"], "sentence2": "x", "label": row["label"]} for row in texts]
    for row in pairs:
        row["label"] = ("entailment", "no")[row["label"] == "sky"]
    write_table(folder / "pairs" / "train.tsv", pairs[:30])
    write_table(folder / "pairs" / "dev.tsv", pairs[30:])
    (folder / "texts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in train))
    (folder / "texts.json").write_text(json.dumps(train))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(train), folder / "texts.parquet")
    return folder


def save(folder, name):
    """Writes a saved data set of Hugging Face."""
    datasets = pytest.importorskip("datasets")
    if name == "saved_texts":
        rows = json.loads((folder / "texts.json").read_text())
        datasets.Dataset.from_list(rows).class_encode_column("label").save_to_disk(folder / name)
        return
    files = [str(file) for file in sorted(folder.glob("flat/*/*.png"))]
    cells = {"image": files, "label": [LABELS.index(file.split("/")[-2]) for file in files]}
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=LABELS)}
    images = datasets.Dataset.from_dict(cells, datasets.Features(kinds))
    test = images.select(range(0, 24, 8))
    datasets.DatasetDict(train=images, test=test).save_to_disk(folder / name)


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_own_data(forms, name):
    task, where, changes, counts = FORMS[name]
    if isinstance(where, dict):
        places = {"files": {split: str(forms / path) for split, path in where.items()}}
    else:
        places = {"data_dir": str(forms / where)}
        if where.startswith("saved"):
            save(forms, where)
    if TASKS[task].kind == "images":
        changes = {"image_size": 6}
    data = open_data(task, **places, **changes)
    splits = {"train": data.train, **data.tests}
    assert {split: part.count for split, part in splits.items()} == counts
    pairs = "TSV" in name
    of_folders = sorted(LABELS)  # where labels of tables that are numbers come in their order
    classes = of_folders if "folders" in name else LABELS
    assert data.classes == (["entailment", "no"] if pairs else classes)
    if name == "records":  # whose labels are read with their images
        return
    of_each = sum(part.class_counts(len(data.classes)) for part in splits.values())
    assert of_each.tolist() == ([22, 11] if pairs else [sum(counts.values()) // 3] * 3)

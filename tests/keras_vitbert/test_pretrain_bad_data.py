"""Bad data of `pretrain`: one line that names the file and the record."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.pretraining.data import open_data
from keras_vitbert.runs.record_errors import reading
from pipelines.images.image_records import image_example
from pipelines.shards.tfrecords import to_example, write_shards
from tests.keras_vitbert.bad_calls import assert_refused
from tests.keras_vitbert.tiny_runs import PREDICTIONS, config_of
from tests.marks import slow


@pytest.fixture
def refused(sources, tmp_path, capsys):
    """`refused(*flags, culprit=...)`: the call is refused, and leaves the output as it was."""

    def refused(*flags, output_dir=tmp_path / "run", **expected):
        assert_refused(sources, capsys, output_dir, *flags, **expected)

    return refused


def copy_cut(file, path):
    path.write_bytes(file.read_bytes()[:-7])


def copy_damaged(file, path):
    """One bit of the content of the last record."""
    content = bytearray(file.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)


@pytest.fixture
def bad_files(sources, tmp_path):
    """`bad_files(name) -> pattern` of files that are wrong in some way."""
    folder = tmp_path / "data"
    folder.mkdir()
    image_file = sources / "images-train-00000-of-00002"
    text_file = sources / "text-train-00000-of-00002"
    pixels = np.zeros((8, 8, 3), np.uint8)
    kind = None

    def texts():
        for record in tf.data.TFRecordDataset(str(text_file)):
            features = tf.train.Example.FromString(record.numpy()).features.feature
            yield {
                name: np.array(getattr(f, f.WhichOneof("kind")).value)
                for name, f in features.items()
            }

    def write(examples):
        kind_in_manifest = {"text": "text examples"}.get(kind, "images")
        write_shards(map(to_example, examples), str(folder / "x"), 1, kind=kind_in_manifest)

    def images(*labels):
        write(image_example(pixels, label) for label in labels)

    def images_and_one_that_is_not_there():
        images(1, 1, 1, 1)
        manifest = folder / "x.manifest.json"
        manifest.write_text(manifest.read_text().replace('"records":4', '"records":5'))

    def last_text(**changes):
        *first, last = texts()
        write([*first, {**last, **changes}])

    def broken_jpeg():
        *first, last = (image_example(pixels, 1) for _ in range(4))
        write([*first, {**last, "image/encoded": last["image/encoded"][:60]}])

    longer = dict.fromkeys(("input_ids", "segment_ids", "input_mask"), np.zeros(17, int))
    makers = {
        "no_folder": lambda: folder.rmdir(),
        "no_files": lambda: None,
        "no_records": lambda: images(),
        "cut": lambda: copy_cut(image_file, folder / "x"),
        "text_file": lambda: (folder / "x").write_text("no records, but words\n" * 20),
        "zeros": lambda: (folder / "x").write_bytes(bytes(1600)),
        "texts": lambda: shutil.copy(text_file, folder / "x"),
        "images": lambda: shutil.copy(image_file, folder / "x"),
        "few": lambda: images(1, 2),
        "few_texts": lambda: write(list(texts())[:2]),
        "first_label": lambda: images(4, 1, 1, 1),
        "last_label": lambda: images(1, 1, 1, 0),
        "broken_jpeg": broken_jpeg,
        "fewer": images_and_one_that_is_not_there,
        "no_label": lambda: write(
            [*(image_example(pixels, 1) for _ in range(3)), {"image/encoded": "x"}]
        ),
        "last_damaged": lambda: copy_damaged(
            sources / f"{kind}-train-00000-of-00002", folder / "x"
        ),
        "other_length": lambda: last_text(input_ids=np.zeros(15, int)),
        "nan_weights": lambda: last_text(masked_lm_weights=np.full(PREDICTIONS, np.nan)),
        "long_texts": lambda: write([{**t, **longer} for t in texts()]),
    }

    def bad_files(name, of_kind="images"):
        nonlocal kind
        kind = of_kind
        makers[name]()
        return f"{folder}/*"

    return bad_files


@pytest.mark.parametrize(
    ("name", "culprit"),
    [
        ("no_folder", "data/*"),
        ("no_files", "data/*"),
        ("no_records", "data/*"),
        ("cut", "data/x"),
        ("text_file", "data/x"),
        ("zeros", "data/x"),
        ("texts", "image/encoded"),
        ("few", "image_batch"),
        ("first_label", "num_classes"),
    ],
)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_bad_image_files(refused, bad_files, name, culprit, split):
    if split == "validation" and name == "few":
        return  # a short validation is filled up
    flag = f"--config.data.images.{split}={bad_files(name)}"
    refused("--variant=vit", flag, culprit=culprit)


@pytest.mark.parametrize(
    ("name", "culprit"),
    [
        ("no_files", "data/*"),
        ("images", "input_ids"),
        ("few_texts", "text_batch"),
        ("long_texts", "max_sequence_length"),
    ],
)
def test_bad_text_files(refused, bad_files, name, culprit):
    flag = f"--config.data.text.train={bad_files(name, 'text')}"
    refused("--variant=bert", flag, culprit=culprit)


def test_a_pattern_that_is_empty(refused):
    for variant, key in (("vit", "data.images.train"), ("bert", "data.text.validation")):
        refused(f"--variant={variant}", f"--config.{key}=", culprit=key)


# (Split, variant, kind of damage, culprit), of records behind good ones.
BAD_RECORDS = [
    ("train", "vit", "last_label", "record 3"),
    ("train", "vit", "broken_jpeg", "record 3"),
    ("train", "vit", "fewer", "record 4"),
    ("train", "vit", "no_label", "image/class/label"),
    ("validation", "bert", "last_damaged", "record "),
    ("train", "bert", "nan_weights", "weight"),
    ("train", "bert", "other_length", "input_ids"),
]


@pytest.mark.parametrize(
    ("split", "variant", "name", "culprit"),
    [row if row[2] in ("last_label", "last_damaged") else slow(*row) for row in BAD_RECORDS],
)
def test_a_bad_record_is_named_where_it_is_read(sources, bad_files, split, variant, name, culprit):
    """By what a run reads its records under, without a model."""
    kind = {"vit": "images", "bert": "text"}[variant]
    flag = f"--config.data.{kind}.{split}={bad_files(name, kind)}"
    config = config_of(sources, flag, variant=variant)
    stream = open_data(config).stream(config)
    batches = stream.training(0) if split == "train" else stream.validation()
    with pytest.raises(ValueError, match=culprit) as caught, reading(stream):
        for _ in batches.take(4):
            pass
    assert "data/x" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(("split", "variant", "name", "culprit"), BAD_RECORDS[-4:])
def test_a_bad_record_behind_good_ones(refused, bad_files, split, variant, name, culprit):
    kind = {"vit": "images", "bert": "text"}[variant]
    flag = f"--config.data.{kind}.{split}={bad_files(name, kind)}"
    refused(f"--variant={variant}", flag, "--config.steps=4", culprit=culprit, untouched=False)


@pytest.mark.slow
def test_a_bad_record_that_training_does_not_reach(refused, bad_files, tmp_path):
    """The baselines read it: training is over, and is not lost."""
    flags = ["--variant=vit", f"--config.data.images.train={bad_files('last_label')}"]
    flags += [
        "--config.steps=1",
        "--config.optimizer.warmup_steps=0",
        "--config.image_batch=1",
        "--config.seed=1",
    ]
    refused(*flags, culprit="data/*", untouched=False)
    assert (tmp_path / "run" / "metrics.csv").exists()
    assert not (tmp_path / "run" / "summary.json").exists()

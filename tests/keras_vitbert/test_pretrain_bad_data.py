"""Bad data of `pretrain`: one line that names the file, the record and the fix."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs import variants
from keras_vitbert.pretraining.data import open_data
from keras_vitbert.runs.record_errors import reading
from pipelines.images.image_records import image_example
from pipelines.shards.tfrecords import to_example, write_shards
from tests.keras_vitbert.bad_calls import assert_refused
from tests.keras_vitbert.tiny_runs import PREDICTIONS, config_of
from tests.marks import slow


@pytest.fixture
def refused(sources, tmp_path, capsys):
    """`refused(*flags, message=...)`: the call is refused, and leaves the output as it was."""

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
    ("name", "message"),
    [
        ("no_folder", r"no file matches .*data/\*; fix --config.data.images.train"),
        ("no_files", r"no file matches .*data/\*; fix --config.data.images.train"),
        ("no_records", r"data/\* holds no records; .*fix --config.data.images.train"),
        ("cut", r"data/x: the file is cut short \(in record 6\); write it again"),
        ("text_file", r"data/x: the file is damaged, or no TFRecord file \(in record 0\)"),
        ("zeros", r"data/x: the file is damaged, or no TFRecord file \(in record 0\)"),
        ("texts", r"data/x: its records have no field 'image/encoded'.*; give ImageNet-format"),
        ("few", r"data/\* holds 2 records, .*; set --config.image_batch"),
        ("first_label", r"data/x.*: label 4 is not in 1\.\.3; fix --config.model.num_classes"),
    ],
)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_bad_image_files(refused, bad_files, name, message, split):
    if split == "validation" and name == "few":
        return  # a short validation is filled up
    flag = f"--config.data.images.{split}={bad_files(name)}"
    refused("--variant=vit", flag, message=message.replace("images.train", f"images.{split}"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_files", r"no file matches .*data/\*; fix --config.data.text.train"),
        ("images", r"data/x: its records have no field 'input_ids' .*; give TFRecords of BERT"),
        ("few_texts", r"data/\* holds 2 records, .*; set --config.text_batch"),
        ("long_texts", r"17 tokens, .* at most 16; set --config.model.max_sequence_length=17"),
    ],
)
def test_bad_text_files(refused, bad_files, name, message):
    flag = f"--config.data.text.train={bad_files(name, 'text')}"
    refused("--variant=bert", flag, message=message)


def test_a_pattern_that_is_empty(refused):
    message = "the config lacks data .*: --config.data.images.train=PATTERN$"
    refused("--variant=vit", "--config.data.images.train=", message=message)
    message = "the config lacks data .*: --config.data.text.validation=PATTERN$"
    refused("--variant=bert", "--config.data.text.validation=", message=message)


# (Split, variant, kind of damage, message), of records behind good ones.
BAD_RECORDS = [
    ("train", "vit", "last_label", r"data/x.*: record 3: .*label is out of range.*: 0; write"),
    ("train", "vit", "broken_jpeg", r"data/x.*: record 3: .*Invalid JPEG.*; write .* or skip"),
    ("train", "vit", "fewer", r"data/x.*: record 4: the file is cut short; write .* or skip"),
    (
        "train",
        "vit",
        "no_label",
        r"data/x.*: record 3: Feature: image/class/label .* could not be found.; write",
    ),
    (
        "validation",
        "bert",
        "last_damaged",
        r"/x: record \d+: its content does not match its checksum; write",
    ),
    (
        "train",
        "bert",
        "nan_weights",
        r"/x.*: record \d+: .*a masked-LM weight is below 0 or not finite: nan; write",
    ),
    ("train", "bert", "other_length", r"/x.*: record \d+: .*Key: input_ids.*shape: \[16\]; wri"),
]


@pytest.mark.parametrize(
    ("split", "variant", "name", "message"),
    [row if row[2] in ("last_label", "last_damaged") else slow(*row) for row in BAD_RECORDS],
)
def test_a_bad_record_is_named_where_it_is_read(sources, bad_files, split, variant, name, message):
    """By what a run reads its records under, without a model."""
    kind = {"vit": "images", "bert": "text"}[variant]
    config = config_of(sources, f"--config.data.{kind}.{split}={bad_files(name, kind)}")
    uses = variants.find_variant(variant)
    data = open_data(config, images=uses.images, text=uses.text)
    stream = data.stream(config, uses.images, uses.text)
    batches = stream.training(0) if split == "train" else stream.validation()
    with pytest.raises(ValueError, match=message) as caught, reading(stream):
        for _ in batches.take(4):
            pass
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(("split", "variant", "name", "message"), BAD_RECORDS[-4:])
def test_a_bad_record_behind_good_ones(refused, bad_files, split, variant, name, message):
    kind = {"vit": "images", "bert": "text"}[variant]
    flag = f"--config.data.{kind}.{split}={bad_files(name, kind)}"
    refused(f"--variant={variant}", flag, "--config.steps=4", message=message, untouched=False)


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
    message = r"data/\*: an image label is out of range"
    refused(*flags, message=message, untouched=False)
    assert (tmp_path / "run" / "metrics.csv").exists()
    assert not (tmp_path / "run" / "summary.json").exists()

"""Bad data of `pretrain`: one line that names the file and the record."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.experiments.pretraining.data import open_data
from keras_vitbert.runs.damaged_records import reading
from pipelines.images.image_records import image_example
from pipelines.shards.shard_files import to_example, write_shards
from tests.keras_vitbert.tiny_runs import PREDICTIONS, config_of

IMAGES, TEXTS = ("vit", "images"), ("bert", "text")  # variants and their data


def write(folder, examples, kind="images"):
    write_shards(map(to_example, examples), str(folder / "x"), 1, kind=kind)


def images(folder, *labels, **last):
    """Images of some labels; the last one has other features."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    *examples, end = (image_example(pixels, label) for label in labels)
    write(folder, [*examples, {**end, **last}])


def texts(folder, path, change):
    """The texts of a file, the last one changed."""
    examples = []
    for record in tf.data.TFRecordDataset(str(path)):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        values = {name: getattr(f, f.WhichOneof("kind")).value for name, f in features.items()}
        examples.append({name: np.array(value) for name, value in values.items()})
    write(folder, change(examples), "text examples")


def broken_jpeg(folder):
    encoded = image_example(np.zeros((8, 8, 3), np.uint8), 1)["image/encoded"]
    images(folder, 1, 1, 1, 1, **{"image/encoded": encoded[:60]})


def last_damaged(folder, path):
    """One bit of the content of the last record."""
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    (folder / "x").write_bytes(content)


def long(examples):
    zeros = dict.fromkeys(("input_ids", "segment_ids", "input_mask"), np.zeros(17, int))
    return [{**example, **zeros} for example in examples]


def last_changed(**changes):
    return lambda examples: [*examples[:-1], {**examples[-1], **changes}]


WEIGHTS = last_changed(masked_lm_weights=np.full(PREDICTIONS, np.nan))
# Each writes files from the folder to fill, one of images and one of texts.
AT_ONCE = [
    (IMAGES, lambda folder, *_: None, "data/*"),
    (IMAGES, lambda folder, *_: (folder / "x").write_bytes(bytes(1600)), "data/x"),
    (IMAGES, lambda folder, *_: images(folder, 1, 2), "image_batch_size"),
    (TEXTS, lambda folder, path, _: shutil.copy(path, folder / "x"), "input_ids"),
    (TEXTS, lambda folder, _, path: texts(folder, path, long), "max_sequence_length"),
]
WHERE_READ = [
    (IMAGES, lambda folder, _, path: shutil.copy(path, folder / "x"), "image/class/label"),
    (IMAGES, lambda folder, *_: images(folder, 4, 1, 1, 1), "record 0: .*num_classes"),
    (IMAGES, lambda folder, *_: broken_jpeg(folder), "record 3"),
    (TEXTS, lambda folder, _, path: last_damaged(folder, path), "record "),
    (TEXTS, lambda folder, _, path: texts(folder, path, WEIGHTS), "weight"),
]


@pytest.fixture
def bad_files(sources, tmp_path):
    """`bad_files(data, make, split="train") -> flags` for files that `make` has written."""
    folder = tmp_path / "data"
    folder.mkdir()
    files = (sources / f"{kind}-train-00000-of-00002" for kind in ("images", "text"))

    def bad_files(data, make, split="train"):
        make(folder, *files)
        variant, kind = data
        return [f"--variant={variant}", f"--config.data.{kind}.{split}={folder}/*"]

    return bad_files


@pytest.mark.parametrize(("data", "make", "culprit"), AT_ONCE)
def test_files_that_are_refused_at_once(refused, bad_files, data, make, culprit):
    refused(*bad_files(data, make), culprit=culprit)


def test_a_pattern_that_is_empty(refused):
    flags = "--variant=bert", "--config.data.text.validation="
    refused(*flags, culprit="data.text.validation")


@pytest.mark.parametrize(("data", "make", "culprit"), WHERE_READ)
def test_a_bad_record_is_named_where_it_is_read(sources, bad_files, data, make, culprit):
    """By what a run reads its records under, without a model."""
    variant, *flags = bad_files(data, make)
    config = config_of(sources, *flags, variant=variant.removeprefix("--variant="))
    with pytest.raises(ValueError, match=culprit) as caught:
        stream = open_data(config).stream(config)
        with reading(stream):
            for _ in stream.training(0).take(4):
                pass
    assert "data/x" in str(caught.value) and "\n" not in str(caught.value)

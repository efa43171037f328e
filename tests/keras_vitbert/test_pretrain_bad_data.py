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


def images(folder, *labels):
    """Images of some labels."""
    write(folder, [image_example(np.zeros((8, 8, 3), np.uint8), label) for label in labels])


def texts(folder, path, change):
    """The texts of a file, changed."""
    examples = []
    for record in tf.data.TFRecordDataset(str(path)):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        values = {name: getattr(f, f.WhichOneof("kind")).value for name, f in features.items()}
        examples.append({name: np.array(value) for name, value in values.items()})
    write(folder, change(examples), "text examples")


def unweighted(examples):
    weights = {"masked_lm_weights": np.full(PREDICTIONS, np.nan)}
    return [*examples[:-1], {**examples[-1], **weights}]


# Each writes files from the folder to fill, one of images and one of texts.
AT_ONCE = [
    (IMAGES, lambda folder, *_: None, "data/*"),
    (IMAGES, lambda folder, *_: images(folder, 1, 2), "image_batch_size"),
    (TEXTS, lambda folder, path, _: shutil.copy(path, folder / "x"), "input_ids"),
]
WHERE_READ = [
    (IMAGES, lambda folder, _, path: shutil.copy(path, folder / "x"), "image/class/label"),
    (IMAGES, lambda folder, *_: images(folder, 4, 1, 1, 1), "record 0: .*num_classes"),
    (TEXTS, lambda folder, _, path: texts(folder, path, unweighted), "weight"),
]


@pytest.fixture
def bad_files(sources, tmp_path):
    """`bad_files(data, make) -> flags` for files that `make` has written."""
    folder = tmp_path / "data"
    folder.mkdir()
    files = (sources / f"{kind}-train-00000-of-00002" for kind in ("images", "text"))

    def bad_files(data, make):
        make(folder, *files)
        variant, kind = data
        return [f"--variant={variant}", f"--config.data.{kind}.train={folder}/*"]

    return bad_files


@pytest.mark.parametrize(("data", "make", "culprit"), AT_ONCE)
def test_files_that_are_refused_at_once(refused, bad_files, data, make, culprit):
    refused(*bad_files(data, make), culprit=culprit)


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

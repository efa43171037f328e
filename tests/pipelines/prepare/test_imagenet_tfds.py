"""TFDS' own reader under noise; what it prepares is tested with the command."""

import pytest
import tensorflow as tf

from pipelines.prepare import image_shards


def test_noise_of_tfds(tmp_path):
    """Under the mock of TFDS there are no splits to divide; records are still what they should."""
    import tensorflow_datasets as tfds

    class Sink(list):
        write = list.append

    sink = Sink()
    with tfds.testing.mock_data(num_examples=4):
        builder = image_shards.open_builder(str(tmp_path), "5.1.0")
        classes = tuple(builder.info.features["label"].names)
        job = image_shards.TfdsImagesJob(str(tmp_path), "5.1.0", "train", classes, 4)
        counts, damaged = job.write_shard(0, 1, sink)
    assert counts["images"] == 4 and not damaged
    for record in sink:
        features = tf.train.Example.FromString(record).features.feature
        label = features["image/class/label"].int64_list.value[0]
        assert 1 <= label <= 1000
        assert features["image/class/synset"].bytes_list.value[:] == [classes[label - 1].encode()]
        tf.io.decode_jpeg(features["image/encoded"].bytes_list.value[0])


def test_the_latest_version_is_taken(tmp_path, monkeypatch):
    """By number: 5.10.0 comes after 5.9.0."""

    class Opened(Exception):
        pass

    def opened(data_dir, version):
        raise Opened(version)

    monkeypatch.setattr(image_shards, "open_builder", opened)
    for version in ("5.10.0", "5.9.0", "5.1.0"):
        (tmp_path / "imagenet2012" / version).mkdir(parents=True)
        (tmp_path / "imagenet2012" / version / "dataset_info.json").touch()
    (tmp_path / "imagenet2012" / "6.0.0.incomplete").mkdir()
    with pytest.raises(Opened, match="^5.10.0$"):
        image_shards.find_tfds_splits(str(tmp_path))


def test_a_folder_without_the_data_set_is_told(tmp_path):
    with pytest.raises(ValueError, match="holds no imagenet2012/VERSION/dataset_info.json"):
        image_shards.find_tfds_splits(str(tmp_path))

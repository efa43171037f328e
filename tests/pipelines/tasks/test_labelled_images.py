"""Images of a task: files and records, in the same views, each once an epoch, on any replicas."""

import numpy as np
import pytest
import tensorflow as tf

from pipelines.images.image_records import ImageRecordFiles
from pipelines.images.image_views import ImageViews
from pipelines.shards.records import RecordFiles
from pipelines.shards.shard_files import to_example, write_shards
from pipelines.tasks.labelled_images import LabelledImages, ListedImages

SIZE, COUNT = 6, 23
VIEWS = ImageViews(SIZE, crop_area=(1.0, 1.0), flip=False, central_crop=1.0)


def encoded(number):
    """An image whose brightness tells its number."""
    return tf.io.encode_png(np.full((SIZE, SIZE, 3), 10 * number, np.uint8)).numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of three classes; image n is of class n mod 3."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(COUNT):
        path = folder / f"class{number % 3}" / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(number))
    return folder


@pytest.fixture(scope="module", params=["files", "records"])
def images(request, folder, tmp_path_factory):
    if request.param == "files":
        store, classes = ListedImages.find(str(folder))
        assert classes == ["class0", "class1", "class2"]
    else:
        prefix = tmp_path_factory.mktemp("records") / "x"
        examples = (
            to_example({"image": encoded(n), "label": np.array([n % 3])}) for n in range(COUNT)
        )
        write_shards(examples, str(prefix), 2)
        records = RecordFiles.find(f"{prefix}-*")
        store = ImageRecordFiles(records, 3, "image", "label", label_offset=0)
    return LabelledImages(store, VIEWS)


def numbers_of(batch):
    """Which images a batch holds, by their brightness; their labels must fit."""
    numbers = batch["images"][:, 0, 0, 0] // 10
    np.testing.assert_array_equal(batch["labels"], numbers % 3)
    return numbers


def context(replicas, hosts=1, host=0):
    return tf.distribute.InputContext(hosts, host, replicas)


def test_training_takes_every_image_once_an_epoch(images):
    stream = images.training(seed=5, step=0, batch=4).take(2 * COUNT).as_numpy_iterator()
    numbers = np.concatenate([numbers_of(batch) for batch in stream])
    epochs = numbers.reshape(8, COUNT)
    for epoch in epochs:
        assert sorted(epoch) == list(range(COUNT))
    assert len({tuple(epoch) for epoch in epochs}) == 8
    again = images.training(seed=6, step=0, batch=4).take(COUNT).as_numpy_iterator()
    assert np.any(np.concatenate([numbers_of(batch) for batch in again]) != numbers[: 4 * COUNT])


def test_training_goes_on_from_any_step(images):
    views = ImageViews(SIZE, crop_area=(0.3, 1.0))
    images = LabelledImages(images.store, views)
    stream = list(images.training(5, 0, 4).take(9).as_numpy_iterator())
    later = images.training(5, 7, 4).take(2).as_numpy_iterator()
    for ours, wanted in zip(later, stream[7:], strict=True):
        for name in wanted:
            np.testing.assert_array_equal(ours[name], wanted[name])


@pytest.fixture(scope="module")
def steps(images):
    """The images of four training steps."""
    return [numbers_of(b) for b in images.training(1, 3, 8).take(4).as_numpy_iterator()]


@pytest.mark.slow
def test_replicas_share_training(images, steps):
    replicas, hosts = 4, 2
    streams = [
        images.training(1, 3, 8, context(replicas, hosts, host)).as_numpy_iterator()
        for host in range(hosts)
    ]
    for batch in steps:
        shares = [next(stream) for stream in streams for _ in range(replicas // hosts)]
        # Which replica gets an image does not matter; a step's images do.
        assert sorted(np.concatenate([numbers_of(b) for b in shares])) == sorted(batch)


@pytest.mark.parametrize(("replicas", "hosts"), [(1, 1), (4, 2)])
def test_evaluation_takes_every_image_once(images, replicas, hosts):
    found = {}
    for host in range(hosts):
        stream = images.evaluation(8, context(replicas, hosts, host))
        batches = list(stream.as_numpy_iterator())
        assert (
            len(batches)
            == images.evaluation_batches(8) * replicas // hosts
            == 3 * replicas // hosts
        )
        for batch in batches:
            there = batch["numbers"] >= 0
            np.testing.assert_array_equal(batch["weights"], there)
            real = {name: value[there] for name, value in batch.items()}
            for number, image in zip(real["numbers"], numbers_of(real), strict=True):
                assert number not in found
                found[number] = image
    assert sorted(found) == sorted(found.values()) == list(range(COUNT))


def test_a_part_and_the_rest(images):
    first, last = images.part([(0, 7), (9, 17)]), images.part([(7, 9), (17, COUNT)])
    seen = [
        numbers_of(batch)
        for part in (first, last)
        for batch in part.evaluation(1).as_numpy_iterator()
    ]
    assert (first.count, last.count) == (15, 8)
    assert sorted(np.concatenate(seen)) == list(range(COUNT))


def test_damage_is_found_by_name(folder, tmp_path):
    for number in range(3):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / f"{number}.png").write_bytes(encoded(number))
    assert ListedImages.find(str(tmp_path))[0].first_damage() is None
    (tmp_path / "a" / "1.png").write_bytes(encoded(1)[:40])
    assert f"{tmp_path}/a/1.png: " in ListedImages.find(str(tmp_path))[0].first_damage()

"""Images of a task: files and records, in the same views, each once an epoch, on any replicas."""

import numpy as np
import pytest
import tensorflow as tf

from pipelines.images.image_records import ImageRecordFiles
from pipelines.images.image_views import ImageViews
from pipelines.shards.records import RecordFiles
from pipelines.shards.shard_files import to_example, write_shards
from pipelines.tasks.labelled_images import LabelledImages
from pipelines.tasks.listed_images import ListedImages

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
        prefix = str(tmp_path_factory.mktemp("records") / "x")
        examples = [{"image": encoded(n), "label": n % 3} for n in range(COUNT)]
        write_shards(map(to_example, examples), prefix, 2)
        records = RecordFiles.find(f"{prefix}-*")
        store = ImageRecordFiles(records, 3, "image", "label", label_offset=0)
    return LabelledImages(store, VIEWS)


def numbers_of(batch):
    """Which images a batch holds, by their brightness; their labels must fit."""
    numbers = batch["images"][:, 0, 0, 0] // 10
    labels = batch["labels"] if "labels" in batch else batch["image_labels"]  # or of training
    np.testing.assert_array_equal(labels, numbers % 3)
    return numbers


def contexts(replicas, hosts):
    return [tf.distribute.InputContext(hosts, host, replicas) for host in range(hosts)]


def test_training_takes_every_image_once_an_epoch(images):
    stream = images.training(seed=5, step=0, batch=4).take(2 * COUNT).as_numpy_iterator()
    numbers = np.concatenate([numbers_of(batch) for batch in stream])
    epochs = numbers.reshape(8, COUNT)
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 8
    again = images.training(seed=6, step=0, batch=4).take(COUNT).as_numpy_iterator()
    assert np.any(np.concatenate([numbers_of(batch) for batch in again]) != numbers[: 4 * COUNT])


def test_training_goes_on_from_any_step(images):
    views = ImageViews(SIZE, crop_area=(0.3, 1.0))
    images = LabelledImages(images.store, views)
    *_, wanted = images.training(5, 0, 4).take(9).as_numpy_iterator()
    [ours] = images.training(5, 8, 4).take(1).as_numpy_iterator()
    for name in wanted:
        np.testing.assert_array_equal(ours[name], wanted[name])


@pytest.mark.slow
def test_replicas_share_training(images):
    steps = [numbers_of(b) for b in images.training(1, 3, 8).take(4).as_numpy_iterator()]
    streams = [images.training(1, 3, 8, each).as_numpy_iterator() for each in contexts(4, 2)]
    for batch in steps:
        shares = [next(stream) for stream in streams for _ in range(2)]
        # Which replica gets an image does not matter; a step's images do.
        assert sorted(np.concatenate([numbers_of(b) for b in shares])) == sorted(batch)


@pytest.mark.parametrize(("replicas", "hosts"), [(1, 1), (4, 2)])
def test_evaluation_takes_every_image_once(images, replicas, hosts):
    found = {}
    for context in contexts(replicas, hosts):
        batches = list(images.evaluation(8, context).as_numpy_iterator())
        assert len(batches) == 3 * replicas // hosts and images.evaluation_batches(8) == 3
        for batch in batches:
            there = batch["numbers"] >= 0
            np.testing.assert_array_equal(batch["weights"], there)
            real = {name: value[there] for name, value in batch.items()}
            assert not set(real["numbers"]) & set(found)
            found |= dict(zip(real["numbers"], numbers_of(real), strict=True))
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


def test_damage_is_found_by_name(folder):
    assert ListedImages.find(str(folder))[0].first_damage() is None
    path = folder / "class1" / "99.png"
    path.write_bytes(encoded(1)[:40])
    assert f"{path}: " in ListedImages.find(str(folder))[0].first_damage()
    path.unlink()

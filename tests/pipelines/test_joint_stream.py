import collections
import dataclasses
import itertools
import types

import numpy as np
import pytest
import tensorflow as tf

from pipelines.images.image_records import ImageStream, write_image_records
from pipelines.images.image_views import ImageViews
from pipelines.joint_stream import JointStream
from pipelines.shards.records import RecordFiles
from pipelines.shards.shard_files import to_example, write_shards
from pipelines.text.wordpiece import SPECIAL_TOKENS
from pipelines.text_stream import TextStream

SIZE, LENGTH = 8, 6
VOCABULARY = [*SPECIAL_TOKENS, *"abcdefghijklmno"]
COUNTS = {"train": (17, 14), "validation": (13, 7)}  # images, texts


def text(number):
    """A text whose ids tell its number."""
    return {
        "input_ids": np.full(LENGTH, number),
        "segment_ids": np.arange(LENGTH) // 3,
        "input_mask": np.ones(LENGTH, int),
        "masked_lm_positions": [1, 2],
        "masked_lm_ids": [number, 0],
        "masked_lm_weights": np.array([1, 0], np.float32),
        "next_sentence_labels": number % 2,
    }


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """17 and 14 training examples, 13 and 7 for validation; their labels or ids number them."""
    folder = tmp_path_factory.mktemp("joint")
    random = np.random.default_rng(0)
    sources = {}
    for split, (images, texts) in COUNTS.items():
        pixels = random.integers(0, 256, (images, 12, 12, 3), np.uint8)
        write_image_records(pixels, range(images), folder / f"image-{split}", 3)
        write_shards((to_example(text(n)) for n in range(texts)), str(folder / f"text-{split}"), 2)

        def find(kind, split=split):
            return RecordFiles.find(f"{folder}/{kind}-{split}-*")

        sources[split] = (
            ImageStream(find("image"), images, views=ImageViews(SIZE, (0.3, 1.0))),
            TextStream.open(find("text"), VOCABULARY, 20, LENGTH),
        )
    (images, texts), (image_validation, text_validation) = sources.values()
    return JointStream(images, image_validation, texts, text_validation, 4, 8, seed=1)


def take(dataset, count=None):
    return [{k: v.numpy() for k, v in b.items()} for b in itertools.islice(dataset, count)]


def assert_equal(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert set(a) == set(b)
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def joined(batches):
    """Batches of several replicas as one."""
    return {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}


def context(pipelines=1, pipeline=0, replicas=1):
    return tf.distribute.InputContext(pipelines, pipeline, replicas)


@pytest.fixture(scope="module")
def training(stream):
    return stream.training()


@pytest.fixture(scope="module")
def whole(training):
    """The first batches of the unbroken stream: 6 epochs of images, 16 of texts."""
    return take(training, 29)


@pytest.fixture(scope="module")
def whole_validation(stream):
    return take(stream.validation())


def test_batches_are_what_the_trainer_takes(stream, training, whole):
    batch = whole[0]
    shapes = {name: value.shape for name, value in batch.items()}
    assert shapes == {
        "images": (4, SIZE, SIZE, 3),
        "image_labels": (4,),
        "token_ids": (8, LENGTH),
        "segment_ids": (8, LENGTH),
        "padding_mask": (8, LENGTH),
        "masked_positions": (8, 2),
        "masked_ids": (8, 2),
        "masked_weights": (8, 2),
        "next_sentence_labels": (8,),
    }
    assert {name: tuple(s.shape) for name, s in training.element_spec.items()} == shapes
    floats = {name for name, value in batch.items() if value.dtype == np.float32}
    assert floats == {"masked_weights"}
    assert batch["images"].dtype == np.uint8
    assert (stream.images_per_step, stream.tokens_per_step) == (4, 8 * LENGTH)


def test_entered_at_any_step_it_equals_the_unbroken_stream(stream, whole):
    assert_equal(take(stream.training(23), 6), whole[23:29])


def test_no_two_sources_have_the_same_seed(stream):
    source, seeds = types.SimpleNamespace(names=lambda seed, start, count: [seed]), []
    for seed in range(3):
        twins = dataclasses.replace(stream, images=source, texts=source, seed=seed)
        seeds += itertools.chain(*twins.batch_records(0).values())
    assert len(set(seeds)) == len(seeds) == 6


def test_the_batches_of_replicas_are_the_global_batch(stream, whole, whole_validation):
    replicas = 4
    shares = take(stream.training(2, context(replicas=replicas)), 5 * replicas)
    assert all(len(share["images"]) == 4 // replicas for share in shares)
    steps = [joined(shares[i : i + replicas]) for i in range(0, len(shares), replicas)]
    assert_equal(steps, whole[2:7])

    shares = take(stream.validation(context(replicas=replicas)))
    steps = [joined(shares[i : i + replicas]) for i in range(0, len(shares), replicas)]
    assert_equal(steps, whole_validation)


def in_any_order(batch):
    """The examples of a batch, each modality for itself, as a multiset."""
    images = zip(batch["images"], batch["image_labels"], strict=True)
    texts = zip(*(batch[name] for name in sorted(batch) if "image" not in name), strict=True)
    return collections.Counter(
        b"".join(np.asarray(part).tobytes() for part in example)
        for example in itertools.chain(images, texts)
    )


@pytest.mark.slow
def test_hosts_divide_the_global_batch(stream, whole, whole_validation):
    pipelines, replicas = 2, 4
    each = replicas // pipelines
    shares = [
        take(stream.training(1, context(pipelines, pipeline, replicas)), 6 * each)
        for pipeline in range(pipelines)
    ]
    for step, batch in enumerate(whole[1:7]):
        parts = [share for host in shares for share in host[step * each : (step + 1) * each]]
        assert in_any_order(joined(parts)) == in_any_order(batch)

    hosts = [
        take(stream.validation(context(pipelines, pipeline, replicas)))
        for pipeline in range(pipelines)
    ]
    assert {len(host) for host in hosts} == {stream.validation_batches * each}
    assert in_any_order(joined([share for host in hosts for share in host])) == in_any_order(
        joined(whole_validation)
    )


@pytest.fixture(scope="module")
def validation_images(stream):
    """Those that the source gives, without crop and flip."""
    return [example["images"].numpy() for example in stream.image_validation.validation()]


@pytest.mark.parametrize(
    ("image_batch_size", "text_batch_size"),
    [(4, 8), (3, 1)],
)
def test_validation_counts_every_example_once(
    stream, validation_images, image_batch_size, text_batch_size
):
    stream = dataclasses.replace(
        stream, image_batch_size=image_batch_size, text_batch_size=text_batch_size
    )
    dataset = stream.validation()
    batches = take(dataset)
    steps = max(-(-13 // image_batch_size), -(-7 // text_batch_size))
    assert len(batches) == stream.validation_batches == steps
    assert dataset.cardinality() == len(batches)
    whole = joined(batches)
    for label, weight, count in (("image_labels", "image_weights", 13), ("ids", "text_weights", 7)):
        values = whole["token_ids"][:, 0] if label == "ids" else whole[label]
        weights = whole[weight]
        assert set(np.unique(weights)) <= {0.0, 1.0} and weights.dtype == np.float32
        assert sorted(values[weights == 1]) == list(range(count))
        assert not values[weights == 0].any()
    assert not whole["masked_weights"][whole["text_weights"] == 0].any()
    for batch in batches:
        assert (
            len(batch["images"]) == image_batch_size and len(batch["token_ids"]) == text_batch_size
        )
    np.testing.assert_array_equal(whole["images"][whole["image_weights"] == 1], validation_images)


@pytest.mark.parametrize("kept", ["images", "texts"])
def test_one_modality_alone_is_the_same_as_with_the_other(stream, whole, kept):
    absent = {
        "images": {"texts": None, "text_validation": None},
        "texts": {"images": None, "image_validation": None},
    }[kept]
    alone = dataclasses.replace(stream, **absent)
    both, one = whole[3:7], take(alone.training(3), 4)
    names = {name for name in both[0] if ("image" in name) == (kept == "images")}
    assert_equal(one, [{name: batch[name] for name in names} for batch in both])
    assert alone.validation_batches == (4 if kept == "images" else 1)
    weights = {n for n in alone.validation().element_spec if n.endswith("_weights")}
    wanted = {"images": {"image_weights"}, "texts": {"text_weights", "masked_weights"}}
    assert weights == wanted[kept]
    assert (alone.images_per_step > 0) == (kept == "images")
    assert (alone.tokens_per_step > 0) == (kept == "texts")

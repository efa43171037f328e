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
from tests.marks import slow

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
    sources = []
    for split, (images, texts) in COUNTS.items():
        pixels = random.integers(0, 256, (images, 12, 12, 3), np.uint8)
        write_image_records(pixels, range(images), folder / f"image-{split}", 3)
        write_shards((to_example(text(n)) for n in range(texts)), str(folder / f"text-{split}"), 2)
        files = [RecordFiles.find(f"{folder}/{kind}-{split}-*") for kind in ("image", "text")]
        sources.append(ImageStream(files[0], images, views=ImageViews(SIZE, (0.3, 1.0))))
        sources.append(TextStream.open(files[1], VOCABULARY, 20, LENGTH))
    images, texts, image_validation, text_validation = sources
    return JointStream(images, image_validation, texts, text_validation, 4, 8, seed=1)


def take(dataset, count=None):
    return [{k: v.numpy() for k, v in b.items()} for b in itertools.islice(dataset, count)]


def assert_equal(first, second):
    for a, b in zip(first, second, strict=True):
        assert set(a) == set(b)
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def joined(batches):
    """Batches of several replicas as one."""
    return {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}


@pytest.fixture(scope="module")
def whole(stream):
    """The first batches of the unbroken stream: 6 epochs of images, 16 of texts."""
    return take(stream.training(), 29)


def test_entered_at_any_step_it_equals_the_unbroken_stream(stream, whole):
    assert_equal(take(stream.training(23), 6), whole[23:29])


def test_no_two_sources_have_the_same_seed(stream):
    source, seeds = types.SimpleNamespace(names=lambda seed, start, count: [seed]), []
    for seed in range(3):
        twins = dataclasses.replace(stream, images=source, texts=source, seed=seed)
        seeds += itertools.chain(*twins.batch_records(0).values())
    assert len(set(seeds)) == len(seeds) == 6


def in_any_order(batch):
    """The examples of a batch, each modality for itself, as a multiset."""
    images = zip(batch["images"], batch["image_labels"], strict=True)
    texts = zip(*(batch[name] for name in sorted(batch) if "image" not in name), strict=True)
    return collections.Counter(
        b"".join(np.asarray(part).tobytes() for part in example)
        for example in itertools.chain(images, texts)
    )


@pytest.mark.parametrize("hosts", [1, slow(2)])
def test_replicas_of_hosts_divide_the_global_batch(stream, whole, hosts):
    each = 4 // hosts
    contexts = [tf.distribute.InputContext(hosts, host, 4) for host in range(hosts)]
    shares = [take(stream.training(1, context), 3 * each) for context in contexts]
    for step, batch in enumerate(whole[1:4]):
        parts = [share for host in shares for share in host[step * each : (step + 1) * each]]
        assert all(len(share["images"]) == 1 for share in parts)
        assert in_any_order(joined(parts)) == in_any_order(batch)
    shares = [take(stream.validation(context)) for context in contexts]
    assert {len(host) for host in shares} == {stream.validation_batches * each}
    whole_validation = joined(take(stream.validation()))
    assert in_any_order(joined([*itertools.chain(*shares)])) == in_any_order(whole_validation)


def test_validation_counts_every_example_once(stream):
    stream = dataclasses.replace(stream, image_batch_size=3, text_batch_size=2)
    batches = take(stream.validation())
    assert len(batches) == stream.validation_batches == 5
    assert {(len(batch["images"]), len(batch["token_ids"])) for batch in batches} == {(3, 2)}
    whole = joined(batches)
    for values, name, count in (
        (whole["image_labels"], "image_weights", 13),
        (whole["token_ids"][:, 0], "text_weights", 7),
    ):
        weights = whole[name]
        assert set(np.unique(weights)) <= {0.0, 1.0} and weights.dtype == np.float32
        assert sorted(values[weights == 1]) == list(range(count))
        assert not values[weights == 0].any()
    assert not whole["masked_weights"][whole["text_weights"] == 0].any()
    given = [example["images"].numpy() for example in stream.image_validation.validation()]
    np.testing.assert_array_equal(whole["images"][whole["image_weights"] == 1], given)


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
    assert len(take(alone.validation())) == (4 if kept == "images" else 1)
    numbers = (4, 0) if kept == "images" else (0, 8 * LENGTH)
    assert (alone.images_per_step, alone.tokens_per_step) == numbers

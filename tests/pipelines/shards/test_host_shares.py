import numpy as np
import pytest
import tensorflow as tf

from pipelines.shards.streams import host_stream, one_pass, shard, share


@pytest.mark.parametrize(("hosts", "replicas"), [(1, 1), (1, 4), (2, 4), (4, 4)])
def test_hosts_and_replicas_share_a_batch(hosts, replicas):
    contexts = [tf.distribute.InputContext(hosts, host, replicas) for host in range(hosts)]
    assert [shard(context) for context in contexts] == [(hosts, host) for host in range(hosts)]
    assert {share(8, context) * replicas for context in contexts} == {8}


IMAGES = np.arange(1, 13, dtype=np.uint8).reshape(3, 2, 2)
NUMBERS = np.array([7, 8, 9], np.int32)


def read(begin, end):
    examples = {"images": IMAGES[begin:end], "numbers": NUMBERS[begin:end]}
    return tf.data.Dataset.from_tensor_slices(examples)


def test_what_is_filled_counts_for_nothing():
    size = 5
    found = one_pass(read, 3, 1, size, "weights", None, numbers=-1).unbatch()
    found = list(found.as_numpy_iterator())
    rest = size - 3
    assert [example["weights"] for example in found] == [1.0] * 3 + [0.0] * rest
    assert [example["numbers"] for example in found] == [7, 8, 9] + [-1] * rest
    np.testing.assert_array_equal([example["images"] for example in found[:3]], IMAGES)
    assert not any(example["images"].any() for example in found[3:])
    assert {example["images"].dtype for example in found} == {np.dtype(np.uint8)}
    assert {example["weights"].dtype for example in found} == {np.dtype(np.float32)}


def test_hosts_divide_a_pass():
    for host, numbers in enumerate([[[7], [8]], [[9], [0]]]):
        context = tf.distribute.InputContext(2, host, 4)
        stream = one_pass(read, 3, 4, 1, "weights", context)
        assert [batch["numbers"].tolist() for batch in stream.as_numpy_iterator()] == numbers


def test_tensorflow_does_not_cut_a_hosts_stream_once_more():
    stream = host_stream(tf.data.Dataset.range(9))
    assert list(stream.as_numpy_iterator()) == list(range(9))
    policy = stream.options().experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.OFF
    assert stream.options().deterministic

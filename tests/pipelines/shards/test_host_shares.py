import numpy as np
import tensorflow as tf

from pipelines.shards.streams import host_stream, one_pass

IMAGES = np.arange(1, 13, dtype=np.uint8).reshape(3, 2, 2)
NUMBERS = np.array([7, 8, 9], np.int32)


def read(begin, end):
    examples = {"images": IMAGES[begin:end], "numbers": NUMBERS[begin:end]}
    return tf.data.Dataset.from_tensor_slices(examples)


def test_what_is_filled_counts_for_nothing():
    [found] = one_pass(read, 3, 5, 1, "weights", None, numbers=-1).as_numpy_iterator()
    assert found["weights"].tolist() == [1.0] * 3 + [0.0] * 2
    assert found["weights"].dtype == np.float32 and found["images"].dtype == np.uint8
    assert found["numbers"].tolist() == [7, 8, 9, -1, -1]
    np.testing.assert_array_equal(found["images"][:3], IMAGES)
    assert not found["images"][3:].any()


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

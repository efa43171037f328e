"""How the hosts and replicas of a run share a stream.

Their `context` is a `tf.distribute.InputContext`, or None where one replica takes everything.
"""

import tensorflow as tf


def shard(context):
    """The share of a source that a host reads.

    Args:
        context: see above.

    Returns:
        (number of hosts, index of this one).
    """
    return (1, 0) if context is None else (context.num_input_pipelines, context.input_pipeline_id)


def share(global_batch, context):
    """The size of one replica's batch.

    Args:
        global_batch: int, examples over all replicas.
        context: see above.

    Returns:
        int.

    Raises:
        ValueError: the replicas cannot share the batch evenly.
    """
    return global_batch if context is None else context.get_per_replica_batch_size(global_batch)


def one_pass(read, count, batch, steps, weight_name, context, **empties):
    """A host's share of batches that hold every example once, padded with empty examples.

    Args:
        read: function of (begin, end) that returns a `tf.data.Dataset` of those examples, dicts.
        count: int, how many examples there are.
        batch: int, examples per step over all replicas.
        steps: int, how many batches there are, over all hosts.
        weight_name: str, the field for an example's weight: 1.0, or 0.0 if it is empty.
        context: see above.
        **empties: values that an empty example has instead of zeros.

    Returns:
        `tf.data.Dataset` of dicts, each a replica's batch.
    """
    hosts, host = shard(context)
    size = steps * batch // hosts
    begin, end = (min(place * size, count) for place in (host, host + 1))
    stream = read(begin, end)
    empty = {name: tf.zeros(spec.shape, spec.dtype) for name, spec in stream.element_spec.items()}
    for name, value in empties.items():
        empty[name] = tf.cast(value, empty[name].dtype)
    filling = tf.data.Dataset.from_tensors({**empty, weight_name: 0.0}).repeat()
    stream = stream.map(lambda example: {**example, weight_name: 1.0}).concatenate(filling)
    return stream.take(size).batch(share(batch, context), drop_remainder=True)


def host_stream(stream):
    """Marks a stream as divided among hosts, so that TensorFlow does not divide it again.

    Args:
        stream: `tf.data.Dataset`, a host's own.

    Returns:
        `tf.data.Dataset`, deterministic and prefetched.
    """
    options = tf.data.Options()
    options.deterministic = True
    # Its thread looks for better settings at intervals of up to a minute, and ending the stream may
    # have to wait for the next one. Maps use all cores without it.
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return stream.with_options(options).prefetch(2)

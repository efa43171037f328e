"""How the hosts and replicas of a run share a stream.

Their `context` is a `tf.distribute.InputContext`, or None where one replica takes everything.
"""

import tensorflow as tf


def shard(context):
    """The part of a source that a host reads.

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
    """Batches that hold every example once, a host's share of them, filled with empty examples.

    Args:
        read: function of (begin, end) to a `tf.data.Dataset` of those examples, dicts.
        count: int, how many examples there are.
        batch: int, examples a step over all replicas.
        steps: int, how many batches come out, over all hosts.
        weight_name: str, where an example's weight is put: 1.0, or 0.0 if it is empty.
        context: see above.
        **empties: values that an empty example has instead of zeros.

    Returns:
        `tf.data.Dataset` of dicts, a replica's batch each.
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
    # Its thread looks for better settings at intervals of up to a minute, and whoever ends the
    # stream may have to wait for the next time. Maps use all cores without it.
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return stream.with_options(options).prefetch(2)

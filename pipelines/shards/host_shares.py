"""How the hosts and replicas of a run share a stream."""


def shard(context):
    """The part of a source that a host reads: (number of parts, index).

    Args:
        context: `tf.distribute.InputContext`, or None for all of it.
    """
    return (1, 0) if context is None else (context.num_input_pipelines, context.input_pipeline_id)


def share(global_batch, context):
    """Examples of one replica's batch."""
    return global_batch if context is None else context.get_per_replica_batch_size(global_batch)


def filled(stream, size, weight_name, **empties):
    """The stream with a weight of 1 an example, filled to `size` with zeros of weight 0.

    Args:
        stream: `tf.data.Dataset` of dicts.
        size: int, examples that come out.
        weight_name: str, where the weight is put.
        **empties: other values than zero that an empty example has.
    """
    import tensorflow as tf

    empty = {name: tf.zeros(spec.shape, spec.dtype) for name, spec in stream.element_spec.items()}
    for name, value in empties.items():
        empty[name] = tf.cast(value, empty[name].dtype)
    filling = tf.data.Dataset.from_tensors({**empty, weight_name: 0.0}).repeat()
    real = stream.map(lambda example: {**example, weight_name: 1.0})
    return real.concatenate(filling).take(size)


def host_stream(stream):
    """A stream that is already cut for its host: TensorFlow must not cut it once more."""
    import tensorflow as tf

    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return stream.with_options(options).prefetch(2)

"""A function of a model, compiled for whole batches on the devices of a strategy."""

import keras
import numpy as np
import tensorflow as tf


def on_whole_batches(function, model, strategy, sums=False, spec=None):
    """Compiles a function of one replica's share of a batch for the whole batch.

    Args:
        function: of a dict of tensors, to nested lists and dicts of tensors, in `keras.ops`; or to
            a tuple of int32 and float32 tensors `(examples, columns)`, which TensorFlow's replicas
            then put together at once. Of a share, the first axis is that of the examples; or `sums`
            is true.
        model: `keras.Model`, whose weights the function reads.
        strategy: see `tpu.strategy.get_strategy`; that of the model.
        sums: bool, whether what the replicas find is summed; else it is put together.
        spec: the batches' type, where one trace is to be for all their shapes.

    Returns:
        function of a batch, distributed by the strategy, to nested lists and dicts of NumPy arrays.
    """
    if keras.backend.backend() == "jax":
        return strategy.whole(function, model, sums)

    columns = []  # of a tuple: how many each part has, and its type

    def of_share(batch):
        found = function(batch)
        if sums or not isinstance(found, tuple):
            return found
        columns[:] = [(part.shape[1], part.dtype.as_numpy_dtype) for part in found]
        return tf.concat([tf.bitcast(part, tf.int32) for part in found], axis=1)

    def whole(part):
        if sums:
            return strategy.reduce(tf.distribute.ReduceOp.SUM, part, axis=None)
        return strategy.gather(part, axis=0)

    def step(batch):
        return tf.nest.map_structure(whole, strategy.run(of_share, args=(batch,)))

    signature = None if spec is None else (spec,)
    compiled = tf.function(step, input_signature=signature, autograph=False)

    def on_batch(batch):
        found = tf.nest.map_structure(lambda part: part.numpy(), compiled(batch))
        if not columns:
            return found
        ends = np.cumsum([width for width, _ in columns])
        parts = np.split(found, ends[:-1], axis=1)
        return tuple(
            np.ascontiguousarray(part).view(kind)
            for part, (_, kind) in zip(parts, columns, strict=True)
        )

    return on_batch

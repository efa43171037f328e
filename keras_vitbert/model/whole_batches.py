"""A function of a model, compiled for whole batches on the devices of a strategy."""

import keras
import numpy as np
import tensorflow as tf


def on_whole_batches(function, model, strategy, sums=False, spec=None):
    """Compiles a function of one replica's share of a batch for the whole batch.

    Args:
        function: takes a dict of tensors and returns nested lists and dicts of tensors, in
            `keras.ops`; or a tuple of int32 and float32 tensors `(examples, columns)`, which
            TensorFlow's replicas then concatenate at once. The first axis of its outputs is that of
            the share's examples, unless `sums` is true.
        model: `keras.Model`, whose weights the function reads.
        strategy: the model's, see `tpu.strategy.get_strategy`.
        sums: bool, whether the outputs of the replicas are summed; else they are concatenated.
        spec: the batches' type, if one trace is to serve all their shapes.

    Returns:
        function that takes a batch distributed by the strategy, and returns nested lists and dicts
        of NumPy arrays.
    """
    if keras.backend.backend() == "jax":
        return strategy.on_batches(function, model, sums)

    columns = []  # for a tuple: how many columns each part has, and its type

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

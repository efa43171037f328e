"""A function of a model, compiled for whole batches on the devices of a strategy."""

import keras
import tensorflow as tf


def on_whole_batches(function, model, strategy, sums=False, spec=None):
    """Compiles a function of one replica's share of a batch for the whole batch.

    Args:
        function: of a dict of tensors, to nested lists and dicts of tensors, in `keras.ops`. Of a
            share, their first axis is that of the examples; or `sums` is true.
        model: `keras.Model`, whose weights the function reads.
        strategy: see `tpu.strategy.get_strategy`; that of the model.
        sums: bool, whether what the replicas find is summed; else it is put together.
        spec: the batches' type, where one trace is to be for all their shapes.

    Returns:
        function of a batch, distributed by the strategy, to nested lists and dicts of NumPy arrays.
    """
    if keras.backend.backend() == "jax":
        return strategy.whole(function, model, sums)

    def whole(part):
        if sums:
            return strategy.reduce(tf.distribute.ReduceOp.SUM, part, axis=None)
        return strategy.gather(part, axis=0)

    def step(batch):
        return tf.nest.map_structure(whole, strategy.run(function, args=(batch,)))

    signature = None if spec is None else (spec,)
    compiled = tf.function(step, input_signature=signature, autograph=False)
    return lambda batch: tf.nest.map_structure(lambda part: part.numpy(), compiled(batch))

"""A function of a model, compiled for whole batches on the devices of a strategy."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def on_whole_batches(
    function: Callable[[dict], Any],
    model: keras.Model,
    strategy: Any,
    sums: bool = False,
    spec: Any = None,
) -> Callable[[Any], Any]:
    """Compiles a function of one replica's share of a batch for the whole batch.

    Args:
        function: takes a dict of tensors and returns nested tuples and dicts of tensors, in
            `keras.ops`. The first axis of its outputs is that of the share's examples, unless
            `sums` is true.
        model: whose weights the function reads.
        strategy: the model's, see `tpu.strategy.get_strategy`.
        sums: whether the outputs of the replicas are summed; else they are concatenated.
        spec: the batches' type, if one trace is to serve all their shapes.

    Returns:
        Function that takes a batch distributed by the strategy, and returns nested tuples and dicts
        of NumPy arrays.
    """
    if keras.backend.backend() == "jax":
        return strategy.on_batches(function, model, sums)

    def whole(share: Any) -> tf.Tensor:
        if sums:
            return strategy.reduce(tf.distribute.ReduceOp.SUM, share, axis=None)
        return strategy.gather(share, axis=0)

    def step(batch: Any) -> Any:
        return tf.nest.map_structure(whole, strategy.run(function, args=(batch,)))

    signature = None if spec is None else (spec,)
    compiled = tf.function(step, input_signature=signature, autograph=False)
    return lambda batch: tf.nest.map_structure(lambda x: x.numpy(), compiled(batch))

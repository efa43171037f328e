"""A function of a model, compiled for whole batches on the devices of a strategy."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
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
        function: takes a dict of tensors and returns nested lists and dicts of tensors, in
            `keras.ops`; or a tuple of int32 and float32 tensors `(examples, columns)`. The first
            axis of its outputs is that of the share's examples, unless `sums` is true.
        model: whose weights the function reads.
        strategy: the model's, see `tpu.strategy.get_strategy`.
        sums: whether the outputs of the replicas are summed; else they are concatenated.
        spec: the batches' type, if one trace is to serve all their shapes.

    Returns:
        Function that takes a batch distributed by the strategy, and returns nested lists and dicts
        of NumPy arrays.
    """
    if keras.backend.backend() == "jax":
        return strategy.on_batches(function, model, sums)

    columns: list[tuple[int, type]] = []  # for a tuple: the columns of each tensor, and its type

    def of_share(batch: dict) -> Any:
        outputs = function(batch)
        if sums or not isinstance(outputs, tuple):
            return outputs
        # One gather: several in a step are not told apart by strategies of other sizes.
        columns[:] = [(output.shape[1], output.dtype.as_numpy_dtype) for output in outputs]
        return tf.concat([tf.bitcast(output, tf.int32) for output in outputs], axis=1)

    def whole(share: Any) -> tf.Tensor:
        if sums:
            return strategy.reduce(tf.distribute.ReduceOp.SUM, share, axis=None)
        return strategy.gather(share, axis=0)

    def step(batch: Any) -> Any:
        return tf.nest.map_structure(whole, strategy.run(of_share, args=(batch,)))

    signature = None if spec is None else (spec,)
    compiled = tf.function(step, input_signature=signature, autograph=False)

    def on_batch(batch: Any) -> Any:
        outputs = tf.nest.map_structure(lambda x: x.numpy(), compiled(batch))
        if not columns:
            return outputs
        ends = np.cumsum([width for width, _ in columns])
        blocks = np.split(outputs, ends[:-1], axis=1)
        return tuple(
            np.ascontiguousarray(block).view(kind)
            for block, (_, kind) in zip(blocks, columns, strict=True)
        )

    return on_batch

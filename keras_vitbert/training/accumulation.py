"""A step in parts, one after another, whose sums are those of the whole batch."""

import tensorflow as tf


def in_parts(function, batch, parts, variables=()):
    """Sums what a function returns for the parts of a batch, with the memory of one part.

    Args:
        function: takes (dict, a part of the batch; scalar int64 tensor, its number) and returns
            (lists of gradients with respect to the variables, or None; nested lists and dicts of
            tensors), all of which is summed. It must not sum over replicas or change a variable. It
            is traced once.
        batch: dict of tensors, all with the same first axis or with first axes that `parts`
            divides.
        parts: int.
        variables: list of Keras variables.

    Returns:
        what the function returns.

    Raises:
        ValueError: the parts do not divide a first axis.
    """
    del variables  # gradients already are sums over a replica's share
    if parts == 1:
        return function(batch, tf.constant(0, tf.int64))
    divided = {name: _divided(name, value, parts) for name, value in batch.items()}
    made = None

    @tf.function(autograph=False)
    def part(number):
        nonlocal made
        made = function({name: tf.gather(value, number) for name, value in divided.items()}, number)
        return [x for x in tf.nest.flatten(made) if x is not None]

    like = part.get_concrete_function(tf.TensorSpec((), tf.int64)).structured_outputs

    def add(number, sums):
        return number + 1, tf.nest.map_structure(tf.add, sums, part(number))

    _, sums = tf.while_loop(
        lambda number, _: number < parts,
        add,
        (tf.constant(0, tf.int64), tf.nest.map_structure(_zeros, like)),
        parallel_iterations=1,
        maximum_iterations=parts,
    )
    summed = iter(sums)
    return tf.nest.map_structure(lambda x: None if x is None else next(summed), made)


def _zeros(like):
    """Zeros that are made in every step: `tf.zeros` becomes a constant that stays in memory."""
    return tf.raw_ops.Empty(shape=like.shape.as_list(), dtype=like.dtype, init=True)


def _divided(name, value, parts):
    """A tensor with its parts as the first axis."""
    # Texts may have any length, and texts packed into rows any number of rows.
    count, *rest = [size or tf.shape(value)[axis] for axis, size in enumerate(value.shape)]
    if value.shape[0] is not None and count % parts:
        raise ValueError(f"{name}: {parts} parts do not divide {count} examples of a replica")
    return tf.reshape(value, [parts, count // parts, *rest])

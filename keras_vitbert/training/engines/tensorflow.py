"""The engine on TensorFlow: a step is a function of one replica, and sums over all are explicit."""

import tensorflow as tf

from keras_vitbert.training import cpu_layers
from keras_vitbert.training.accumulation import in_parts as in_parts
from keras_vitbert.training.shared_trace import share_trace
from tpu.devices import holder_of_weights

# --- the step ------------------------------------------------------------------------------------


def value(variable):
    """The current value of a variable: tensor.

    Args:
        variable: Keras variable.
    """
    return tf.convert_to_tensor(variable.value)


def gradients(function, variables):
    """A loss and its gradients.

    Args:
        function: without arguments; returns a scalar tensor, the loss, and anything else.
        variables: list of Keras variables.

    Returns:
        (list of dense tensors, None where the loss does not reach a variable; the loss; what else
        the function returns).
    """
    values = [variable.value for variable in variables]
    with tf.GradientTape() as tape:
        loss, more = function()
    found = tape.gradient(loss, values)
    # The word embeddings' gradient is an `IndexedSlices`, whose duplicate rows AdamW would square
    # one by one instead of squaring their sum.
    with tf.name_scope("embedding_gradients"):
        dense = [
            # TensorFlow loses the shape where the number of rows is not known.
            None if g is None else tf.ensure_shape(tf.convert_to_tensor(g), v.shape)
            for g, v in zip(found, values, strict=True)
        ]
    return dense, loss, more


def shares():
    """int, how many replicas share a batch; the step sees one replica's share."""
    return tf.distribute.get_replica_context().num_replicas_in_sync


def summed(values):
    """Sums over the replicas, inside one of them.

    Args:
        values: nested lists of tensors.

    Returns:
        nested lists of tensors, the same on every replica.
    """
    replicas = tf.distribute.get_replica_context()
    with tf.name_scope("sum_over_replicas"):
        return replicas.all_reduce(tf.distribute.ReduceOp.SUM, values)


def of_all(sums):
    """Sums for metrics: a replica's own, which are added up when a metric is read.

    Args:
        sums: nested dicts and tuples of scalar tensors, of this replica's share.
    """
    return sums


def after(tensors, others):
    """Tensors that are not used until others are ready.

    Args:
        tensors: nested dicts and lists of tensors.
        others: nested lists of tensors and None.
    """
    with tf.control_dependencies([x for x in tf.nest.flatten(others) if x is not None]):
        return tf.nest.map_structure(tf.identity, tensors)


def half_square(tensor):
    """Half the sum of squares of a tensor."""
    return tf.nn.l2_loss(tensor)


def times(tensor, scale):
    """A product that is 0 where the scale is 0, even for values that are not finite.

    Args:
        tensor: tensor.
        scale: scalar tensor.
    """
    return tf.math.multiply_no_nan(tensor, scale)


def update_each(update, variables, gradients, numbers, in_turn):
    """Updates variables; each device updates its own copy.

    Args:
        update: of (variable, gradient, list of scalar or vector tensors).
        variables: list of Keras variables; `update` gets TensorFlow's.
        gradients: list of tensors, the same on all replicas.
        numbers: list of tensors, other values that differ between steps.
        in_turn: bool, whether variables are updated one after another.
    """

    def each(strategy, gradients, *numbers):
        def of_device(variable, gradient, before, *numbers):
            first = [numbers[0]] if before is None else [numbers[0], before.read_value()]
            # Otherwise products of all weights would be kept from the beginning of the step.
            with tf.control_dependencies(first):
                update(variable, gradient, numbers)

        before = None
        for variable, gradient in zip(variables, gradients, strict=True):
            arguments = gradient, before, *numbers
            strategy.extended.update(variable.value, of_device, args=arguments, group=False)
            before = variable.value if in_turn else None

    # What differs between steps reaches the updates on each device as their arguments.
    tf.__internal__.distribute.interim.maybe_merge_call(
        each, tf.distribute.get_strategy(), gradients, *numbers
    )


def adam(variable, moments, gradient, rate, first, second, epsilon):
    """Adam's update in one pass over memory (Kingma and Ba 2015, algorithm 1).

    Args:
        variable: `tf.Variable`.
        moments: pair of Keras variables, of the gradient and of its square.
        gradient: tensor.
        rate: scalar tensor, with the correction of both moments' bias.
        first, second: scalar tensors, the weights of the gradient in the moments.
        epsilon: float.
    """
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=moments[0].value.handle,
        v=moments[1].value.handle,
        beta1_power=0.0,
        beta2_power=0.0,
        lr=rate,
        beta1=1 - first,
        beta2=1 - second,
        epsilon=epsilon,
        grad=gradient,
    )


# --- what is around it ---------------------------------------------------------------------------


def devices():
    """What computes the steps: str, `tpu`, `gpu` or `host`."""
    return holder_of_weights(tf.distribute.get_strategy())


def prepare(network):
    """Makes a network's layers take the forms that are fastest here, where that is asked for.

    Args:
        network: a built Keras model with a `backbone`.
    """
    cpu_layers.adapt(network)
    share_trace(network.backbone.blocks)

"""The engine on JAX: a step is a function of one device's share of a batch, or of the whole.

See `tpu.jax_strategy`: where every device has all weights, the strategy has an axis, and sums over
it are explicit; where weights are divided, they are XLA's.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import keras

from keras_vitbert.training import pass_scope
from keras_vitbert.training.recomputation import recompute

# --- the step ------------------------------------------------------------------------------------


def value(variable):
    """What a variable holds now: array.

    Args:
        variable: Keras variable.
    """
    return variable.value


def gradients(function, variables):
    """A loss and its gradients.

    Args:
        function: without arguments; returns a scalar array, the loss, and anything else.
        variables: list of Keras variables.

    Returns:
        (list of arrays, None for a variable that the function does not read; the loss; what else
        the function returns).
    """
    read, around = set(), pass_scope.present("state")
    strategy: Any = pass_scope.present("strategy")

    def of(values):
        scope = State(zip(variables, values, strict=True), around, read, strategy.gathered)
        with scope, pass_scope.using(state=scope):
            return function()

    found = jax.value_and_grad(of, has_aux=True)([variable.value for variable in variables])
    (loss, more), slopes = found
    reached = [
        strategy.scattered(g) if id(v) in read else None
        for g, v in zip(slopes, variables, strict=True)
    ]
    return reached, loss, more


class State(keras.StatelessScope):
    """Values of variables; of others, those that the scope around it has.

    Args:
        values: iterable of (Keras variable, array).
        around: `State`, or None.
        read: set, to which the ids of the variables that are read are added, or None.
        gathered: function of an array, which is applied whenever one of `values` is read.
    """

    def __init__(self, values, around=None, read=None, gathered=None):
        values = list(values)
        super().__init__(values)
        self._around, self._read, self._gathered = around, read, gathered
        self._own = {id(variable) for variable, _ in values}

    def get_current_value(self, variable):
        if self._read is not None:
            self._read.add(id(variable))
        found = super().get_current_value(variable)
        if found is None and self._around is not None:
            return self._around.get_current_value(variable)
        if self._gathered is not None and id(variable) in self._own:
            return self._gathered(found)
        return found


def shares():
    """int, how many devices share a batch, of which the step sees one's share."""
    strategy: Any = pass_scope.present("strategy")
    return strategy.num_replicas_in_sync if strategy.axis else 1


def summed(values):
    """Sums over the devices, unless they are those of the whole batch already.

    Args:
        values: nested lists of arrays.

    Returns:
        nested lists of arrays, the same on every device.
    """
    strategy: Any = pass_scope.present("strategy")
    return jax.lax.psum(values, strategy.axis) if strategy.axis else values


def of_all(values, weights):
    """A weighted mean over all devices, for a metric.

    Args:
        values, weights: arrays, of this device's share.

    Returns:
        (scalar array, the mean; scalar array, the sum of weights, as Keras counts them: of an
        example the mean of its).
    """
    total, weight = summed([jnp.sum(values * weights), jnp.sum(weights)])
    return keras.ops.divide_no_nan(total, weight), weight / math.prod(values.shape[1:])


def after(tensor, others):
    """An array that is not used before others are there.

    Args:
        tensor: array.
        others: nested lists of arrays and None.
    """
    return jax.lax.optimization_barrier((tensor, others))[0]


def in_parts(function, batch, parts):
    """Sums what a function makes of the parts of a batch, with the memory of one part.

    Args:
        function: of (dict, a part of the batch; scalar int array, its number) to nested lists and
            dicts of arrays, which are summed. It must not change a variable.
        batch: dict of arrays, with first axes that `parts` divides.
        parts: int.

    Returns:
        what the function returns.

    Raises:
        ValueError: the parts do not divide a first axis.
    """
    if parts == 1:
        return function(batch, 0)
    divided = {}
    strategy: Any = pass_scope.present("strategy")
    devices = 1 if strategy.axis else strategy.num_replicas_in_sync
    for name, array in batch.items():
        count, *rest = array.shape
        if count % (devices * parts):
            raise ValueError(
                f"{name}: {devices} devices of {parts} parts do not divide {count} examples"
            )
        # Each part is of all devices, so that nothing has to move.
        of_devices = jnp.reshape(array, (devices, parts, count // devices // parts, *rest))
        divided[name] = jnp.reshape(jnp.swapaxes(of_devices, 0, 1), (parts, count // parts, *rest))
    of_parts = divided, jnp.arange(parts)
    made = jax.eval_shape(lambda part: function(*part), jax.tree.map(lambda x: x[0], of_parts))

    def add(sums, part):
        return jax.tree.map(jnp.add, sums, function(*part)), None

    return jax.lax.scan(add, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), made), of_parts)[0]


def half_square(tensor):
    """Half the sum of squares of an array."""
    return jnp.sum(jnp.square(tensor)) / 2


def times(tensor, scale):
    """A product that is 0 where the scale is, also for what is not finite.

    Args:
        tensor: array.
        scale: scalar array.
    """
    return jnp.where(scale == 0, jnp.zeros((), tensor.dtype), tensor * scale)


def update_each(update, variables, gradients, numbers, in_turn):
    """Updates variables.

    Args:
        update: of (variable, gradient, list of scalar or vector arrays).
        variables: list of Keras variables.
        gradients: list of arrays.
        numbers: list of arrays, what else differs between steps.
        in_turn: bool; XLA orders by itself.
    """
    del in_turn
    for variable, gradient in zip(variables, gradients, strict=True):
        update(variable, gradient, numbers)


def adam(variable, moments, gradient, rate, first, second, epsilon):
    """Adam's update (Kingma and Ba 2015, algorithm 1).

    Args:
        variable: Keras variable.
        moments: pair of Keras variables, of the gradient and of its square.
        gradient: array.
        rate: scalar array, with the correction of both moments' bias.
        first, second: scalar arrays, the weights of the gradient in the moments.
        epsilon: float.
    """
    momentum, velocity = moments
    momentum.assign_add((gradient - momentum.value) * first)
    velocity.assign_add((jnp.square(gradient) - velocity.value) * second)
    variable.assign_sub(momentum.value * rate / (jnp.sqrt(velocity.value) + epsilon))


# --- what is around it ---------------------------------------------------------------------------


def devices():
    """What computes the steps: str, `tpu`, `gpu` or `cpu`; not `host`, for which layers have forms
    of TensorFlow's.
    """
    return jax.default_backend()


def prepare(network):
    """Makes the blocks' MLPs compute their activations again in the backward pass.

    Else XLA writes each activation and its derivative, the largest values of a block, to memory and
    reads them back, while a step waits for memory. What they are computed from is kept in their
    place, and XLA computes them where a product reads them.

    Args:
        network: a built Keras model with a `backbone`.
    """
    for block in network.backbone.blocks:
        inner, outer = block._feedforward_intermediate_dense, block._feedforward_output_dense
        if inner.activation is not None:  # else it has been prepared
            outer.call = _behind(inner.activation, outer.call)
            inner.activation = None
            recompute([outer])


def _behind(activation, product):
    def call(inputs, training=None):
        return product(activation(inputs), training=training)

    return call

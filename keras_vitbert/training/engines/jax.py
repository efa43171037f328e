"""The engine on JAX: a step is a function of one device's share of a batch, or of the whole.

See `tpu.jax_strategy`: where every device has all weights, the whole step is a function of one
device's share; where weights are divided, only the passes are, inside `in_parts`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import keras

from keras_vitbert.training import pass_scope
from keras_vitbert.training.recomputation import recompute

# --- the step ------------------------------------------------------------------------------------


def value(variable):
    """The current value of a variable: array.

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
    read = set()
    around: Any = pass_scope.present("state")
    strategy: Any = pass_scope.present("strategy")

    def of(values):
        # Once for all reads of a variable, so that their gradients are summed before they are sent.
        values = [strategy.gathered(x, v.shape) for x, v in zip(values, variables, strict=True)]
        scope = State(zip(variables, values, strict=True), around, read)
        with scope, pass_scope.using(state=scope):
            return function()

    values = [around.held(variable) for variable in variables]
    (loss, more), slopes = jax.value_and_grad(of, has_aux=True)(values)
    if strategy.divides_weights:
        slopes = [strategy.scattered(g, v.shape) for g, v in zip(slopes, variables, strict=True)]
    reached = [g if id(v) in read else None for g, v in zip(slopes, variables, strict=True)]
    return reached, loss, more


class State(keras.StatelessScope):
    """Values of variables; for other variables, the values in the scope around it.

    Args:
        values: iterable of (Keras variable, array).
        around: `State`, or None.
        read: set, to which the ids of the variables that are read are added, or None.
    """

    def __init__(self, values, around=None, read=None):
        values = list(values)
        super().__init__(values)
        self._around, self._read = around, read
        self._own = [variable for variable, _ in values]

    def get_current_value(self, variable):
        if self._read is not None:
            self._read.add(id(variable))
        found = super().get_current_value(variable)
        if found is None and self._around is not None:
            return self._around.get_current_value(variable)
        return found

    def held(self, variable):
        """What this device holds of a variable: array.

        Args:
            variable: Keras variable.
        """
        return self.get_current_value(variable)

    def variables(self):
        """The variables of this scope and of those around it: list."""
        return [*self._own, *(self._around.variables() if self._around else ())]


class DividedState(keras.StatelessScope):
    """Values of variables of which this device holds a part; they are gathered when read.

    Args:
        variables: list of Keras variables.
        values: list of arrays, the parts.
        strategy: `tpu.jax_strategy.JaxStrategy`.
    """

    def __init__(self, variables, values, strategy):
        super().__init__()  # it takes only values of the variables' own shapes
        self._strategy = strategy
        self._held = {id(v): value for v, value in zip(variables, values, strict=True)}

    def get_current_value(self, variable):
        found = self.held(variable)
        return None if found is None else self._strategy.gathered(found, variable.shape)

    def held(self, variable):
        """See `State`."""
        return self._held.get(id(variable))


def shares():
    """int, how many devices share a batch; a pass sees one device's share."""
    strategy: Any = pass_scope.present("strategy")
    return strategy.num_replicas_in_sync


def summed(values):
    """Sums over the devices, unless `in_parts` has summed already.

    Args:
        values: nested lists of arrays.

    Returns:
        nested lists of arrays, the same on every device.
    """
    strategy: Any = pass_scope.present("strategy")
    return jax.lax.psum(values, strategy.axis) if strategy.axis else values


def of_all(sums):
    """Sums for metrics, the same on every device.

    Args:
        sums: nested dicts and tuples of scalar arrays, see `summed`.
    """
    return summed(sums)


def after(tensors, others):
    """Arrays that are not used until others are ready.

    Args:
        tensors: nested dicts and lists of arrays.
        others: nested lists of arrays and None.
    """
    return jax.lax.optimization_barrier((tensors, others))[0]


def in_parts(function, batch, parts, variables=()):
    """Sums what a function returns for the parts of a batch, with the memory of one part.

    Args:
        function: takes (dict, a part of a device's share of the batch; scalar int array, its
            number) and returns (lists of `gradients` with respect to the variables; nested lists
            and dicts of arrays), all of which is summed. It must not sum over devices or change a
            variable.
        batch: dict of arrays, with first axes that `parts` divides.
        parts: int.
        variables: list of Keras variables.

    Returns:
        what the function returns, for this device's share; where weights are divided, for the whole
        batch, with gradients divided like the weights.

    Raises:
        ValueError: the parts do not divide a first axis.
    """
    around: Any = pass_scope.present("state")
    strategy: Any = pass_scope.present("strategy")
    if strategy.axis:
        return _of_share(function, batch, parts)
    read = around.variables()

    def on_device(values, batch):
        scope = DividedState(read, values, strategy)
        with scope, pass_scope.using(state=scope):
            gradients, others = _of_share(function, batch, parts)
        # By variable, like `specs`; only the function knows how many losses have gradients.
        of_variables = list(zip(*gradients, strict=True)) or [()] * len(variables)
        return of_variables, jax.lax.psum(others, strategy.axis)

    specs = [strategy.sharding_of(variable.shape).spec for variable in variables]
    run = strategy.on_each(on_device, (specs, strategy.everywhere.spec))
    of_variables, others = run([around.held(variable) for variable in read], batch)
    return [list(row) for row in zip(*of_variables, strict=True)], others


def _of_share(function, batch, parts):
    if parts == 1:
        return function(batch, 0)
    divided = {}
    for name, array in batch.items():
        count, *rest = array.shape
        if count % parts:
            raise ValueError(f"{name}: {parts} parts do not divide {count} examples of a device")
        divided[name] = jnp.reshape(array, (parts, count // parts, *rest))
    of_parts = divided, jnp.arange(parts)
    made = jax.eval_shape(lambda part: function(*part), jax.tree.map(lambda x: x[0], of_parts))

    def add(sums, part):
        return jax.tree.map(jnp.add, sums, function(*part)), None

    return jax.lax.scan(add, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), made), of_parts)[0]


def half_square(tensor):
    """Half the sum of squares of an array."""
    return jnp.sum(jnp.square(tensor)) / 2


def times(tensor, scale):
    """A product that is 0 where the scale is 0, even for values that are not finite.

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
        numbers: list of arrays, other values that differ between steps.
        in_turn: bool, without effect: XLA orders operations itself.
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
    """What computes the steps: str, `tpu`, `gpu` or `cpu`; not `host`, for which layers have
    TensorFlow forms.
    """
    return jax.default_backend()


def prepare(network):
    """Makes the blocks' MLPs compute their activations again in the backward pass.

    Otherwise XLA writes each activation and its derivative, the largest values of a block, to
    memory and reads them back, while a step waits for memory. Their input is kept instead, and XLA
    computes them where a product reads them.

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

"""The JAX backend: a step is a function of one device's share of a batch, or of the whole.

For what functions take and return see `backends.tensorflow`, which has the same ones. Where every
device has all weights, the whole step is a function of one device's share; where weights are
divided, only the passes are, inside `over_micro_batches` (`tpu.jax_strategy`).
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from keras_vitbert.merging.random_numbers import of_examples
from keras_vitbert.training import step_context
from keras_vitbert.training.anomaly_guard import STEP_ROW
from keras_vitbert.training.step_context import recompute
from tpu.jax_strategy import Batches, current_strategy

# --- the step ------------------------------------------------------------------------------------


def gradients(function: Callable, variables: list) -> tuple[list, Any, Any]:
    """A loss and its gradients; None for a variable that the function does not read."""
    read = set()
    around: Any = step_context.present("state")
    strategy: Any = step_context.present("strategy")

    def of(values):
        # Once for all reads of a variable, so that their gradients are summed before they are sent.
        values = [strategy.gather(x, v.shape) for x, v in zip(values, variables, strict=True)]
        scope = State(zip(variables, values, strict=True), around, read)
        with scope, step_context.using(state=scope):
            return function()

    values = [around.held(variable) for variable in variables]
    (loss, more), grads = jax.value_and_grad(of, has_aux=True)(values)
    if strategy.divides_weights:
        grads = [strategy.scatter(g, v.shape) for g, v in zip(grads, variables, strict=True)]
    reached = [g if id(v) in read else None for g, v in zip(grads, variables, strict=True)]
    return reached, loss, more


class State(keras.StatelessScope):
    """Values of variables; for other variables, the values in the scope around it.

    Args:
        values: pairs of a Keras variable and an array.
        around: a scope like this one.
        read: to which the ids of the variables that are read are added.
    """

    def __init__(self, values: Iterable, around: Any = None, read: set | None = None):
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
        """What this device holds of a variable."""
        return self.get_current_value(variable)

    def variables(self):
        """The variables of this scope and of those around it."""
        return [*self._own, *(self._around.variables() if self._around else ())]


class DividedState(keras.StatelessScope):
    """Values of variables of which this device holds a part; they are gathered when read."""

    def __init__(self, variables, values, strategy):
        super().__init__()  # it takes only values of the variables' own shapes
        self._strategy = strategy
        self._held = {id(v): value for v, value in zip(variables, values, strict=True)}

    def get_current_value(self, variable):
        found = self.held(variable)
        return None if found is None else self._strategy.gather(found, variable.shape)

    def held(self, variable):
        """See `State`."""
        return self._held.get(id(variable))


def summed(values: Any) -> Any:
    """Sums over the devices, unless `over_micro_batches` has summed already."""
    strategy: Any = step_context.present("strategy")
    return jax.lax.psum(values, strategy.axis) if strategy.axis else values


def of_all(sums: Any) -> Any:
    """Sums for metrics, the same on every device."""
    return summed(sums)


def after(tensors: Any, others: Any) -> Any:
    """Arrays that are not used until others are ready."""
    return jax.lax.optimization_barrier((tensors, others))[0]


def over_micro_batches(
    function: Callable, batch: dict, parts: int, variables: Sequence = ()
) -> Any:
    """Sums what a function returns for the parts of a batch, with the memory of one part.

    Where weights are divided, the sums are those of the whole batch, and the gradients are divided
    like the weights.
    """
    around: Any = step_context.present("state")
    strategy: Any = step_context.present("strategy")
    if strategy.axis:
        return _of_share(function, batch, parts)
    read = around.variables()

    def on_device(values, batch):
        scope = DividedState(read, values, strategy)
        with scope, step_context.using(state=scope):
            gradients, others = _of_share(function, batch, parts)
        # By variable, like `specs`; only the function knows how many losses have gradients.
        of_variables = list(zip(*gradients, strict=True)) or [()] * len(variables)
        return of_variables, jax.lax.psum(others, strategy.axis)

    specs = [strategy.sharding_of(variable.shape).spec for variable in variables]
    run = strategy.map_shares(on_device, (specs, strategy.everywhere.spec))
    of_variables, others = run([around.held(variable) for variable in read], batch)
    return [list(row) for row in zip(*of_variables, strict=True)], others


def _of_share(function, batch, parts):
    if parts == 1:
        return function(batch, 0)
    divided = {name: jnp.reshape(x, (parts, -1, *x.shape[1:])) for name, x in batch.items()}
    of_parts = divided, jnp.arange(parts)
    made = jax.eval_shape(lambda part: function(*part), jax.tree.map(lambda x: x[0], of_parts))

    def add(sums, part):
        return jax.tree.map(jnp.add, sums, function(*part)), None

    return jax.lax.scan(add, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), made), of_parts)[0]


def place() -> tuple[Any, Any, int]:
    """The number of this device among those of its host, the host's, and how many take turns."""
    strategy: Any = step_context.present("strategy")
    if strategy is None or not strategy.axis:
        return jnp.uint32(0), jnp.uint32(0), strategy.processes if strategy else 1
    device = jnp.asarray(jax.lax.axis_index(strategy.axis), jnp.uint32)
    of_host = jnp.uint32(strategy.num_replicas_in_sync // strategy.processes)
    return device % of_host, device // of_host, strategy.processes


def generator_of(strategy: Any = None) -> str:
    """The generator of dropout for the devices: Threefry, which XLA fuses on all of them."""
    del strategy
    return "threefry"


def kept(inputs: Any, keys: Any, layer: int, rate: float) -> Any:
    """Which entries of a batch are not dropped."""
    first, every = keys.first(inputs.shape[0]), jnp.uint32(keys.hosts)
    drawn = of_examples(keys.words(layer), first, every, inputs.shape)
    return drawn >= jnp.uint32(round(rate * 2**32))


def l2_loss(tensor: Any) -> Any:
    """Half the sum of squares of an array."""
    return jnp.sum(jnp.square(tensor)) / 2


def times(tensor: Any, scale: Any) -> Any:
    """A product that is 0 where the scale is 0, even for values that are not finite."""
    return jnp.where(scale == 0, jnp.zeros((), tensor.dtype), tensor * scale)


def update_each(update: Callable, variables: list, gradients: list, numbers: list, in_turn: bool):
    """Updates variables."""
    del in_turn  # XLA orders operations itself
    for variable, gradient in zip(variables, gradients, strict=True):
        update(variable, gradient, numbers)


def adam(variable, moments, gradient, rate, first, second, epsilon: float):
    """Adam's update (Kingma and Ba 2015, algorithm 1)."""
    momentum, velocity = moments
    momentum.assign_add((gradient - momentum.value) * first)
    velocity.assign_add((jnp.square(gradient) - velocity.value) * second)
    variable.assign_sub(momentum.value * rate / (jnp.sqrt(velocity.value) + epsilon))


# --- what is around it ---------------------------------------------------------------------------


def devices() -> str:
    """What computes the steps: `tpu`, `gpu` or `cpu`; layers have no other forms on a `cpu`."""
    return jax.default_backend()


def prepare(network: Any):
    """Makes the blocks' MLPs compute their activations again in the backward pass.

    Otherwise XLA writes each activation and its derivative, the largest values of a block, to
    memory and reads them back, while a step waits for memory. Their input is kept instead, and XLA
    computes them where a product reads them.
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


# --- the loop around the steps -------------------------------------------------------------------


class Fitting(keras.Model):
    """`fit` and `evaluate`, with the state in the variables whenever a callback runs.

    Keras' own take the state out of the variables while they run: a callback must neither read nor
    assign a weight (keras#19054).
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.distribute_strategy = current_strategy()

    def train_steps(self, *steps: Callable) -> list[Callable]:
        """See the TensorFlow backend."""
        made = [self.program(step) for step in steps]
        others, state, frozen = made[0]

        def execution(first):
            def execute(batches):
                batches = itertools.islice(batches, self.steps_per_execution)
                programs = itertools.chain([first], itertools.repeat(others))
                logs = self._run(programs, state, frozen, batches)
                return {**logs[-1], STEP_ROW: np.concatenate([each[STEP_ROW] for each in logs])}

            return execute

        return [execution(run) for run, _, _ in made]

    def make_test_function(self, force=False):
        if self.test_function is None or force:
            run, state, frozen = self.program(self.test_step)
            self.test_function = lambda batch: self._run([run], state, frozen, [batch])[0]

    def program(self, step):
        """A step as a program, from the values of variables before it to the values after.

        Args:
            step: callable of a batch that reads and assigns variables; returns logs.

        Returns:
            (compiled function that takes (list of arrays, the state; list of arrays that the step
            only reads; a batch) and returns (list of arrays, logs); list of Keras variables, the
            state; list of Keras variables that the step only reads).
        """
        strategy = self.distribute_strategy
        state = [*self.variables, *self.metrics_variables, *self.optimizer.variables]
        state = list({id(v): v for v in state}.values())
        frozen = list(self.frozen_variables)

        def one(values, frozen_values, batch):
            around = State(zip(frozen, frozen_values, strict=True))
            scope = State(zip(state, values, strict=True), around)
            with scope, step_context.using(state=scope, strategy=strategy):
                logs = step(batch)
            return [scope.get_current_value(v) for v in state], logs

        shardings = [strategy.sharding_of(variable.shape) for variable in state]
        run = jax.jit(
            one if strategy.divides_weights else strategy.map_shares(one),
            donate_argnums=0,
            out_shardings=(shardings, strategy.everywhere),
        )
        return run, state, frozen

    def _run(self, programs, state, frozen, batches):
        """Runs programs on the variables, one for each batch: list of their logs.

        It starts one after another, at most one ahead of the devices, so that their memory never
        holds all batches of an execution.
        """
        placed = self.distribute_strategy.place
        values, read, found = _unaliased(placed(state)), placed(frozen), []
        for batch, run in zip(batches, programs, strict=False):
            values, logs = run(values, read, batch)
            jax.block_until_ready(found[-1:])
            found.append(logs)
        for variable, value in zip(state, values, strict=True):
            variable.assign(value)
        return found

    def fit(
        self,
        x,
        steps_per_epoch,
        initial_epoch=0,
        epochs=1,
        callbacks=None,
        validation_data=None,
        validation_freq=(),
        validation_steps=None,
        shuffle=False,
        verbose=0,
    ):
        """Trains, see `keras.Model.fit`; `shuffle` and `verbose` have no effect.

        Args:
            x, validation_data: `tpu.jax_strategy.Batches`, or a `tf.data.Dataset` of dicts.
            validation_freq: the epochs, counted from 1, that end with a validation.
        """
        callbacks = keras.callbacks.CallbackList(callbacks, model=self, epochs=epochs)
        self.make_train_function()
        run: Any = self.train_function
        self.stop_training = False
        callbacks.on_train_begin()
        logs, batches = {}, iter(self._placed(x))
        for epoch in range(initial_epoch, epochs):
            self.reset_metrics()
            callbacks.on_epoch_begin(epoch)
            for step in range(0, steps_per_epoch, self.steps_per_execution):
                callbacks.on_train_batch_begin(step)
                logs = run(batches)
                callbacks.on_train_batch_end(step + self.steps_per_execution - 1, logs)
                if self.stop_training:
                    break
            logs = {**logs, **self.get_metrics_result()}
            if epoch + 1 in validation_freq:
                found = self.evaluate(validation_data, validation_steps, callbacks)
                logs |= {f"val_{name}": value for name, value in found.items()}
            callbacks.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        callbacks.on_train_end(logs)

    def evaluate(self, x, steps=None, callbacks=None, verbose=0, return_dict=True):
        """The metrics by name of some or all batches, see `keras.Model.evaluate` and `fit`."""
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = keras.callbacks.CallbackList(callbacks, model=self)
        self.make_test_function()
        self.reset_metrics()
        callbacks.on_test_begin()
        logs = {}
        for number, batch in enumerate(itertools.islice(self._placed(x), steps)):
            callbacks.on_test_batch_begin(number)
            logs = self.test_function(batch)
            callbacks.on_test_batch_end(number, logs)
        logs = self.get_metrics_result()
        callbacks.on_test_end(logs)
        return logs

    def _placed(self, batches):
        if isinstance(batches, Batches):
            return batches
        return Batches(self.distribute_strategy, batches)


def _unaliased(values):
    """The same arrays, but none of them twice: a buffer can be donated only once."""
    seen = set()
    return [jnp.copy(x) if id(x) in seen or seen.add(id(x)) else x for x in values]

"""The JAX backend: a step is a function of one device's share of a batch, or of the whole.

For what functions take and return see `backends.tensorflow`, which has the same ones. Where every
device has all weights, the whole step is a function of one device's share; where weights are
divided, only the passes are, inside `sum_micro_batches` (`tpu.jax_strategy`).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from keras_vitbert.merging.random_numbers import example_words
from keras_vitbert.training import step_context
from keras_vitbert.training.anomaly_guard import STEP_ROW
from keras_vitbert.training.step_context import recompute
from tpu.jax_strategy import Batches, JaxStrategy, current_strategy

if TYPE_CHECKING:
    from keras_vitbert.training.step_context import Keys

Batch = dict[str, jax.Array]
Variables = Sequence[keras.Variable]
Values = Sequence[jax.Array]
Step = Callable[[Any], dict]  # of a batch or an iterator; returns logs

# --- the step ------------------------------------------------------------------------------------


def gradients(
    function: Callable[[], tuple[jax.Array, Any]], variables: Variables
) -> tuple[list[jax.Array | None], jax.Array, Any]:
    """A loss and its gradients; None for a variable that the function does not read."""
    read = set()
    around: State = step_context.value_of("state")
    strategy: JaxStrategy = step_context.value_of("strategy")

    def with_values(values: list[jax.Array]) -> tuple[jax.Array, Any]:
        # Once for all reads of a variable, so that their gradients are summed before they are sent.
        values = [strategy.gather(x, v.shape) for x, v in zip(values, variables, strict=True)]
        scope = State(zip(variables, values, strict=True), around, read)
        with scope, step_context.scope(state=scope):
            return function()

    values = [around.local_value(variable) for variable in variables]
    (loss, more), grads = jax.value_and_grad(with_values, has_aux=True)(values)
    if strategy.divides_weights:
        grads = [strategy.scatter(g, v.shape) for g, v in zip(grads, variables, strict=True)]
    reached = [g if id(v) in read else None for g, v in zip(grads, variables, strict=True)]
    return reached, loss, more


class State(keras.StatelessScope):
    """Values of variables; for other variables, the values in the scope around it.

    The ids of the variables that are read are added to `read`.
    """

    def __init__(
        self,
        values: Iterable[tuple[keras.Variable, Any]],
        around: State | None = None,
        read: set[int] | None = None,
    ):
        values = list(values)
        super().__init__(values)
        self._around, self._read = around, read
        self._own = [variable for variable, _ in values]

    def get_current_value(self, variable: keras.Variable) -> jax.Array | None:
        if self._read is not None:
            self._read.add(id(variable))
        value = super().get_current_value(variable)
        if value is None and self._around is not None:
            return self._around.get_current_value(variable)
        return value

    def local_value(self, variable: keras.Variable) -> jax.Array | None:
        """What this device holds of a variable."""
        return self.get_current_value(variable)

    def variables(self) -> list[keras.Variable]:
        """The variables of this scope and of those around it."""
        return [*self._own, *(self._around.variables() if self._around else ())]


class DividedState(keras.StatelessScope):
    """Values of variables of which this device holds a part; they are gathered when read.

    Weights of a block wait for the inputs of the block before it: without this, XLA may gather all
    at once.
    """

    def __init__(self, variables: Variables, values: Values, strategy: JaxStrategy):
        super().__init__()  # it takes only values of the variables' own shapes
        self._strategy = strategy
        self._local = {id(v): value for v, value in zip(variables, values, strict=True)}
        self._inputs: list[jax.Array] = []  # of the block before and of this one

    def enter_block(self, inputs: jax.Array) -> None:
        """Says that what is read next is of a block with these inputs."""
        self._inputs = [*self._inputs[-1:], inputs]

    def get_current_value(self, variable: keras.Variable) -> jax.Array | None:
        value = self.local_value(variable)
        if value is None or value.shape == variable.shape:
            return value
        for inputs in self._inputs[:1]:
            # Never true, which XLA does not know; on CPUs it drops `optimization_barrier`.
            value = jnp.where(inputs.ravel()[0] > jnp.inf, jnp.zeros((), value.dtype), value)
        return self._strategy.gather(value, variable.shape)

    def local_value(self, variable: keras.Variable) -> jax.Array | None:
        """See `State`."""
        return self._local.get(id(variable))


def all_reduce(values: Any) -> Any:
    """Sums over the devices, unless `sum_micro_batches` has summed already."""
    strategy: JaxStrategy = step_context.value_of("strategy")
    return jax.lax.psum(values, strategy.axis) if strategy.axis else values


metric_sums = all_reduce  # the same on every device


def delay(tensors: Any, until: Any) -> Any:
    """Arrays that are not used before others are ready."""
    return jax.lax.optimization_barrier((tensors, until))[0]


def sum_micro_batches(
    function: Callable, batch: Batch, micro_batches: int, variables: Variables = ()
) -> Any:
    """Sums what a function returns for each micro-batch, with the memory of one.

    Where weights are divided, the sums are those of the whole batch, and the gradients are divided
    like the weights.
    """
    around: State = step_context.value_of("state")
    strategy: JaxStrategy = step_context.value_of("strategy")
    if strategy.axis:
        return _sum_share(function, batch, micro_batches)
    read = around.variables()

    def on_device(values: list[jax.Array], batch: Batch) -> tuple:
        scope = DividedState(read, values, strategy)
        with scope, step_context.scope(state=scope):
            gradients, others = _sum_share(function, batch, micro_batches)
        # By variable, like `specs`; only the function knows how many losses have gradients.
        of_variables = list(zip(*gradients, strict=True)) or [()] * len(variables)
        return of_variables, jax.lax.psum(others, strategy.axis)

    specs = [strategy.sharding_of(variable.shape).spec for variable in variables]
    outputs: Any = specs, strategy.everywhere.spec
    run = strategy.map_shares(on_device, outputs)
    of_variables, others = run([around.local_value(variable) for variable in read], batch)
    return [list(row) for row in zip(*of_variables, strict=True)], others


def _sum_share(function: Callable[[Batch, Any], Any], batch: Batch, micro_batches: int) -> Any:
    if micro_batches == 1:
        return function(batch, 0)
    divided = {name: jnp.reshape(x, (micro_batches, -1, *x.shape[1:])) for name, x in batch.items()}
    numbered = divided, jnp.arange(micro_batches)
    made = jax.eval_shape(lambda part: function(*part), jax.tree.map(lambda x: x[0], numbered))

    def add(sums: Any, part: tuple[Batch, jax.Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, function(*part)), None

    return jax.lax.scan(add, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), made), numbered)[0]


def replica_place() -> tuple[jax.Array, jax.Array, int]:
    """The number of this device among those of its host, the host's, and how many take turns."""
    strategy: JaxStrategy | None = step_context.value_of("strategy")
    if strategy is None or not strategy.axis:
        return jnp.uint32(0), jnp.uint32(0), strategy.processes if strategy else 1
    device = jnp.asarray(jax.lax.axis_index(strategy.axis), jnp.uint32)
    of_host = jnp.uint32(strategy.num_replicas_in_sync // strategy.processes)
    return device % of_host, device // of_host, strategy.processes


def generator_of(strategy: Any = None) -> str:
    """The generator of dropout for the devices: Threefry, which XLA fuses on all of them."""
    return "threefry"


def keep_mask(inputs: jax.Array, keys: Keys, layer: int, rate: float) -> jax.Array:
    """Which entries of a batch are not dropped."""
    first, every = keys.first(inputs.shape[0]), jnp.uint32(keys.hosts)
    drawn = example_words(keys.words(layer), first, every, inputs.shape)
    return drawn >= jnp.uint32(round(rate * 2**32))


def l2_loss(tensor: jax.Array) -> jax.Array:
    """Half the sum of squares of an array."""
    return jnp.sum(jnp.square(tensor)) / 2


def multiply_no_nan(tensor: jax.Array, scale: jax.Array) -> jax.Array:
    """A product that is 0 where the scale is 0, even for values that are not finite."""
    return jnp.where(scale == 0, jnp.zeros((), tensor.dtype), tensor * scale)


def update_each(
    update: Callable[[Any, jax.Array, Values], None],
    variables: Variables,
    gradients: Values,
    numbers: Values,
    in_turn: bool,
) -> None:
    """Updates variables; XLA orders operations itself."""
    for variable, gradient in zip(variables, gradients, strict=True):
        update(variable, gradient, numbers)


def adam(
    variable: Any,
    moments: tuple[keras.Variable, keras.Variable],
    gradient: jax.Array,
    rate: jax.Array,
    first: jax.Array,
    second: jax.Array,
    epsilon: float,
) -> None:
    """Adam's update (Kingma and Ba 2015, algorithm 1)."""
    momentum, velocity = moments
    momentum.assign_add((gradient - momentum.value) * first)
    velocity.assign_add((jnp.square(gradient) - velocity.value) * second)
    variable.assign_sub(momentum.value * rate / (jnp.sqrt(velocity.value) + epsilon))


# --- what is around it ---------------------------------------------------------------------------


def prepare(network: Any) -> None:
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
            block.call = _in_turn(block.call)


def _behind(activation: Callable, product: Callable) -> Callable:
    def call(inputs: jax.Array, training: bool | None = None) -> jax.Array:
        return product(activation(inputs), training=training)

    return call


def _in_turn(block: Callable) -> Callable:
    """A block's call, of which `DividedState` learns."""

    @functools.wraps(block)
    def call(inputs: jax.Array, *arguments: Any, **named: Any) -> jax.Array:
        if isinstance(state := step_context.value_of("state"), DividedState):
            state.enter_block(inputs)
        return block(inputs, *arguments, **named)

    return call


# --- the loop around the steps -------------------------------------------------------------------


class Fitting(keras.Model):
    """`fit` and `evaluate`, with the state in the variables whenever a callback runs.

    Keras' own take the state out of the variables while they run: a callback must neither read nor
    assign a weight (keras#19054).
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.distribute_strategy = current_strategy()

    def train_steps(self, *steps: Step) -> list[Step]:
        """See the TensorFlow backend."""
        made = [self.program(step) for step in steps]
        others, state, frozen = made[0]

        def execution(first: Callable) -> Step:
            def execute(batches: Iterator[Batch]) -> dict:
                batches = itertools.islice(batches, self.steps_per_execution)
                programs = itertools.chain([first], itertools.repeat(others))
                logs = self._run(programs, state, frozen, batches)
                return {**logs[-1], STEP_ROW: np.concatenate([each[STEP_ROW] for each in logs])}

            return execute

        return [execution(run) for run, _, _ in made]

    def make_test_function(self, force: bool = False) -> None:
        if self.test_function is None or force:
            run, state, frozen = self.program(self.test_step)
            self.test_function = lambda batch: self._run([run], state, frozen, [batch])[0]

    def program(
        self, step: Callable[[Batch], dict]
    ) -> tuple[Callable, list[keras.Variable], list[keras.Variable]]:
        """A step as a program, from the values of variables before it to the values after.

        Returns the compiled function, which takes values of the state, values that the step only
        reads, and a batch, and returns the first of these and logs; and both lists of variables.
        """
        strategy = self.distribute_strategy
        state = [*self.variables, *self.metrics_variables, *self.optimizer.variables]
        state = list({id(v): v for v in state}.values())
        frozen = list(self.frozen_variables)

        def one(values: list, frozen_values: list, batch: Batch) -> tuple[list, dict]:
            around = State(zip(frozen, frozen_values, strict=True))
            scope = State(zip(state, values, strict=True), around)
            with scope, step_context.scope(state=scope, strategy=strategy):
                logs = step(batch)
            return [scope.get_current_value(v) for v in state], logs

        shardings = [strategy.sharding_of(variable.shape) for variable in state]
        run = jax.jit(
            one if strategy.divides_weights else strategy.map_shares(one),
            donate_argnums=0,
            out_shardings=(shardings, strategy.everywhere),
        )
        return run, state, frozen

    def _run(
        self, programs: Iterable, state: Variables, frozen: Variables, batches: Iterable
    ) -> list[dict]:
        """Runs programs on the variables, one for each batch, and returns their logs.

        It starts one after another, at most one ahead of the devices, so that their memory never
        holds all batches of an execution.
        """
        placed = self.distribute_strategy.place
        values, read, all_logs = _unaliased(placed(state)), placed(frozen), []
        for batch, run in zip(batches, programs, strict=False):
            values, logs = run(values, read, batch)
            jax.block_until_ready(all_logs[-1:])
            all_logs.append(logs)
        for variable, value in zip(state, values, strict=True):
            variable.assign(value)
        return all_logs

    def fit(
        self,
        x: Any,
        steps_per_epoch: int,
        initial_epoch: int = 0,
        epochs: int = 1,
        callbacks: Any = None,
        validation_data: Any = None,
        validation_freq: Sequence[int] = (),
        validation_steps: int | None = None,
        **ignored: Any,  # such as `verbose`
    ) -> None:
        """Trains, see `keras.Model.fit`, on `Batches` or a `tf.data.Dataset` of dicts.

        Epochs of `validation_freq`, counted from 1, end with a validation.
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
                validated = self.evaluate(validation_data, validation_steps, callbacks)
                logs |= {f"val_{name}": value for name, value in validated.items()}
            callbacks.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        callbacks.on_train_end(logs)

    def evaluate(
        self, x: Any, steps: int | None = None, callbacks: Any = None, **ignored: Any
    ) -> dict[str, Any]:
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

    def _placed(self, batches: Any) -> Batches:
        if isinstance(batches, Batches):
            return batches
        return Batches(self.distribute_strategy, batches)


def _unaliased(values: list[jax.Array]) -> list[jax.Array]:
    """The same arrays, but none of them twice: a buffer can be donated only once."""
    seen = set()
    return [jnp.copy(x) if id(x) in seen or seen.add(id(x)) else x for x in values]

"""The TensorFlow backend: a step is a function of one replica, with explicit sums over all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from keras_vitbert.merging.random_numbers import example_words
from keras_vitbert.training import cpu_layers
from keras_vitbert.training.anomaly_guard import STEP_ROW
from tpu.devices import device_type

if TYPE_CHECKING:
    from keras_vitbert.training.step_context import Keys

Variables = Sequence[keras.Variable]
Values = Sequence[tf.Tensor]
Step = Callable[[Any], dict]  # of a batch or an iterator; returns logs
_GROUP = 8  # numbers of 16 bits that Philox makes from a counter
_ALGORITHM = 1  # Philox, among TensorFlow's

# --- the step ------------------------------------------------------------------------------------


def gradients(
    function: Callable[[], tuple[tf.Tensor, Any]], variables: Variables
) -> tuple[list[tf.Tensor | None], tf.Tensor, Any]:
    """The gradients of a function's first result, a scalar, and both results.

    Gradients are dense; None where the loss does not reach a variable.
    """
    values = [variable.value for variable in variables]
    with tf.GradientTape() as tape:
        loss, more = function()
    sparse = tape.gradient(loss, values)
    # The word embeddings' gradient is an `IndexedSlices`, whose duplicate rows AdamW would square
    # one by one instead of squaring their sum.
    with tf.name_scope("embedding_gradients"):
        dense = [
            # TensorFlow loses the shape where the number of rows is not known.
            None if g is None else tf.ensure_shape(tf.convert_to_tensor(g), v.shape)
            for g, v in zip(sparse, values, strict=True)
        ]
    return dense, loss, more


def all_reduce(values: Any) -> Any:
    """The sums of nested lists of tensors over the replicas, the same on each of them."""
    replicas = tf.distribute.get_replica_context()
    with tf.name_scope("sum_over_replicas"):
        return replicas.all_reduce(tf.distribute.ReduceOp.SUM, values)


def metric_sums(sums: Any) -> Any:
    """Sums for metrics: a replica's own, which are added up when a metric is read."""
    return sums


def delay(tensors: Any, until: Any) -> Any:
    """Tensors, in nested dicts and lists, that are not used before others are ready."""
    with tf.control_dependencies([x for x in tf.nest.flatten(until) if x is not None]):
        return tf.nest.map_structure(tf.identity, tensors)


def sum_micro_batches(
    function: Callable[[dict[str, tf.Tensor], tf.Tensor], Any],
    batch: dict[str, tf.Tensor],
    micro_batches: int,
    variables: Variables = (),
) -> Any:
    """Sums what a function returns for each micro-batch, with the memory of one.

    Args:
        function: takes (a micro-batch; its number) and returns (lists of gradients with respect to
            the variables, or None; nested lists and dicts of tensors), all of which is summed. It
            must not sum over replicas or change a variable. It is traced once.
        batch: tensors with first axes that `micro_batches` divides.
        variables: for JAX alone; here gradients already are sums over a replica's share.
    """
    if micro_batches == 1:
        return function(batch, tf.constant(0, tf.int64))
    divided = {name: _divided(value, micro_batches) for name, value in batch.items()}
    made = None

    def part(number: tf.Tensor) -> list[tf.Tensor]:
        nonlocal made
        made = function({name: tf.gather(value, number) for name, value in divided.items()}, number)
        return [x for x in tf.nest.flatten(made) if x is not None]

    traced: Any = tf.function(part, autograph=False)
    like = traced.get_concrete_function(tf.TensorSpec((), tf.int64)).structured_outputs

    def add(number: tf.Tensor, sums: Any) -> Any:
        return number + 1, tf.nest.map_structure(tf.add, sums, traced(number))

    _, sums = tf.while_loop(
        lambda number, _: number < micro_batches,
        add,
        (tf.constant(0, tf.int64), tf.nest.map_structure(_zeros, like)),
        parallel_iterations=1,
        maximum_iterations=micro_batches,
    )
    totals = iter(sums)
    return tf.nest.map_structure(lambda x: None if x is None else next(totals), made)


def _zeros(like: tf.TensorSpec) -> tf.Tensor:
    """Zeros that are made in every step: `tf.zeros` becomes a constant that stays in memory."""
    return tf.raw_ops.Empty(shape=like.shape.as_list(), dtype=like.dtype, init=True)


def _divided(value: tf.Tensor, micro_batches: int) -> tf.Tensor:
    """A tensor with its micro-batches as the first axis."""
    # Texts may have any length, and texts packed into rows any number of rows.
    count, *rest = [size or tf.shape(value)[axis] for axis, size in enumerate(value.shape)]
    return tf.reshape(value, [micro_batches, count // micro_batches, *rest])


def replica_place() -> tuple[tf.Tensor, tf.Tensor, int]:
    """The number of this replica among those of its host, the host's, and how many take turns."""
    context = tf.distribute.get_replica_context()
    hosts = _hosts(context.strategy)
    replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
    of_host = context.num_replicas_in_sync // hosts
    # Not in int32, which would be kept on the host unless it is compiled.
    return tf.cast(replica % of_host, tf.uint32), tf.cast(replica // of_host, tf.uint32), hosts


def _hosts(strategy: tf.distribute.Strategy) -> int:
    """How many hosts read their own part of the data."""
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return strategy.extended.num_hosts
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        resolver = strategy.cluster_resolver
        return sum(resolver.cluster_spec().num_tasks(job) for job in resolver.cluster_spec().jobs)
    return 1


def generator_of(strategy: Any = None) -> str:
    """The generator of dropout for the devices: Philox on GPUs, where nothing fuses Threefry."""
    strategy = strategy or tf.distribute.get_strategy()
    return "philox16" if device_type(strategy) == "gpu" else "threefry"


def keep_mask(inputs: tf.Tensor, keys: Keys, layer: int, rate: float) -> tf.Tensor:
    """Which entries of a batch are not dropped, by `step_context.Keys`: bool of its shape."""
    # Draws need nothing but keys: without this, those of all layers would happen at once.
    with tf.control_dependencies([inputs]):
        if keys.generator == "philox16":
            return _philox(inputs, keys, layer) >= tf.constant(round(rate * 2**16), tf.uint16)
        if cpu_layers.applies():
            return cpu_layers.keep_mask(inputs, keys, layer, rate)
        shape = tf.shape(inputs)
        # Texts may have any length.
        entries = inputs.shape[1:].num_elements() or tf.reduce_prod(shape[1:])
        first, every = keys.first(shape[0]), tf.constant(keys.hosts, tf.uint32)
        drawn = example_words(keys.words(layer), first, every, (shape[0], entries))
        return tf.reshape(drawn >= tf.constant(round(rate * 2**32), tf.uint32), shape)


def _philox(inputs: tf.Tensor, keys: Keys, layer: int) -> tf.Tensor:
    """uint16 of the shape of a batch; the examples of a replica follow in one sequence."""
    shape = tf.shape(inputs, tf.int64)
    entries = inputs.shape[1:].num_elements() or tf.reduce_prod(shape[1:])
    seed, step, number, layer = (tf.cast(x, tf.uint64) for x in keys.words(layer))
    groups = -(-entries // _GROUP)  # of an example
    rows, first = shape[0] * keys.hosts, tf.cast(keys.first(shape[0]), tf.int64)
    high = tf.constant(2**32, tf.uint64)
    drawn = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=tf.stack([rows, groups * _GROUP // 2]),
        key=tf.reshape(step + seed * high, (1,)),
        counter=tf.stack([tf.cast(first * groups, tf.uint64), number * high + layer]),
        alg=_ALGORITHM,
        dtype=tf.uint32,
    )
    halves = tf.reshape(tf.bitcast(drawn, tf.uint16), (rows, groups * _GROUP))
    # The rows between are the other hosts'.
    return tf.reshape(halves[:: keys.hosts, :entries], shape)


def l2_loss(tensor: tf.Tensor) -> tf.Tensor:
    """Half the sum of squares of a tensor."""
    return tf.nn.l2_loss(tensor)


def multiply_no_nan(tensor: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """A product that is 0 where the scale is 0, even for values that are not finite."""
    return tf.math.multiply_no_nan(tensor, scale)


def update_each(
    update: Callable[[Any, tf.Tensor, Values], None],
    variables: Variables,
    gradients: Values,
    numbers: Values,
    in_turn: bool,
) -> None:
    """Updates variables; each device updates its own copy.

    Args:
        update: of (TensorFlow's variable, gradient, numbers).
        gradients: the same on all replicas.
        numbers: other values that differ between steps.
        in_turn: whether variables are updated one after another.
    """

    def each(strategy: tf.distribute.Strategy, gradients: Values, *numbers: tf.Tensor) -> None:
        def of_device(
            variable: tf.Variable, gradient: tf.Tensor, before: Any, *numbers: tf.Tensor
        ) -> None:
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


def adam(
    variable: Any,
    moments: tuple[keras.Variable, keras.Variable],
    gradient: tf.Tensor,
    rate: tf.Tensor,
    first: tf.Tensor,
    second: tf.Tensor,
    epsilon: float,
) -> None:
    """Adam's update in one pass over memory (Kingma and Ba 2015, algorithm 1).

    Args:
        variable: as `update_each` gives it.
        moments: of the gradient and of its square.
        rate: with the correction of both moments' bias.
        first, second: the weights of the gradient in the moments.
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


def prepare(network: keras.Model) -> None:
    """Makes a network's layers take the forms that are fastest here, where that is asked for."""
    cpu_layers.adapt(network)


# --- the loop around the steps -------------------------------------------------------------------


class Fitting(keras.Model):
    """How `keras.Model.fit` runs the steps; see `BaseTrainer`."""

    def train_steps(self, *steps: Step) -> list[Step]:
        """Functions of an iterator, each for `steps_per_execution` training steps.

        Each begins with one of `steps`; its other steps are the first of them.
        """
        return [self._repeated(step, steps[0], self.steps_per_execution) for step in steps]

    def make_test_function(self, force: bool = False) -> None:
        if self.test_function is not None and not force:
            return
        run_step = self._repeated(self.test_step, self.test_step, 1)

        def test_function(iterator: Any) -> dict:
            logs = run_step(iterator)
            # The batches may run out within an execution.
            with contextlib.suppress(tf.errors.OutOfRangeError):
                for _ in range(1, self.steps_per_execution):
                    logs = run_step(iterator)
            return logs

        self.test_function = test_function

    def _repeated(self, first_step: Step, step: Step, count: int) -> Step:
        """A function of an iterator that runs `count` steps and returns the last one's logs.

        The logs are those of this process's first replica, and the rows of all steps, see
        `anomaly_guard.step_row`. The values at the end of an epoch come from `get_metrics_result`,
        which covers all replicas.
        """

        def distributed(step: Step) -> Step:
            def run(batch: Any) -> dict:
                strategy = self.distribute_strategy
                logs = strategy.run(step, args=(batch,))
                return tf.nest.map_structure(
                    lambda values: strategy.experimental_local_results(values)[0], logs
                )

            if self.run_eagerly:
                return run
            # No Python control flow depends on tensors, and AutoGraph doubles the tracing time.
            return tf.function(
                run, autograph=False, reduce_retracing=True, jit_compile=self.jit_compile
            )

        first_step, step = distributed(first_step), distributed(step)

        @tf.autograph.experimental.do_not_convert
        def run_steps(iterator: Any) -> dict:
            logs = first_step(next(iterator))
            if count > 1:

                def next_step(done: tf.Tensor, _: dict, rows: tf.Tensor) -> tuple:
                    logs = step(next(iterator))
                    rows = tf.tensor_scatter_nd_update(rows, [[done]], [logs[STEP_ROW]])
                    return done + 1, logs, rows

                rows = tf.tile(logs[STEP_ROW][tf.newaxis], (count, 1))
                _, logs, rows = tf.while_loop(
                    lambda done, *_: done < count,
                    next_step,
                    (1, logs, rows),
                    parallel_iterations=1,
                )
                logs[STEP_ROW] = rows
            return logs

        return run_steps if self.run_eagerly else tf.function(run_steps, reduce_retracing=True)

    # Keras' `fit` fails under `MultiWorkerMirroredStrategy` in two places (keras#20585): before the
    # first step it averages the first batch over the replicas, including strings and labels, and
    # after each step it averages scalars over an axis that they do not have. A test in
    # `tests/keras_vitbert/runs/test_machine.py` fails once the two methods below can go.

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Does nothing: network, optimiser and metrics are built before `fit`."""

    def _get_metrics_result_or_logs(self, logs: dict) -> dict:
        """An epoch's logs, with means over all replicas: Keras would keep the last step's."""
        return {**logs, **self.get_metrics_result()}

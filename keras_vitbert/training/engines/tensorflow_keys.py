"""Random numbers of dropout on TensorFlow, keyed by example, for `ExampleDropout`."""

import functools
from typing import Any, Optional

import tensorflow as tf

from keras_vitbert.merging.threefry import SHORT, threefry
from keras_vitbert.training import cpu_layers
from tpu.devices import holder_of_weights

_GROUP = 8  # numbers of 16 bits that Philox makes from a counter
_ALGORITHM = 1  # Philox, among TensorFlow's


def generator_of(strategy=None):
    """The generator for the devices: str, Philox on GPUs, where nothing fuses Threefry.

    Args:
        strategy: `tf.distribute.Strategy`, or None for the one in scope.
    """
    strategy = strategy or tf.distribute.get_strategy()
    return "philox16" if holder_of_weights(strategy) == "gpu" else "threefry"


def keys_of(words, generator, part, parts, places):
    """The random numbers of a forward pass on this replica.

    Args:
        words: (seed, step, number of the pass).
        generator, part, parts, places: see `ExampleDropout`.

    Returns:
        `Keys`.
    """
    context = tf.distribute.get_replica_context()
    hosts = _hosts(context.strategy)
    return Keys(
        *words,
        generator,
        # A part is to its replica what a replica is to its host.
        tf.cast(context.replica_id_in_sync_group, tf.int64) * parts + part,
        context.num_replicas_in_sync // hosts * parts,
        hosts,
        places,
    )


class Keys(tf.experimental.ExtensionType):
    """The random numbers of one forward pass on this replica; an argument of a `tf.function`."""

    seed: int
    step: tf.Tensor
    number: int
    generator: str
    replica: tf.Tensor  # scalar int64
    local: int  # replicas of a host
    hosts: int  # that take turns
    places: Optional[int] = None  # noqa: UP045 - TensorFlow knows no other spelling

    def kept(self, inputs, layer, rate):
        """Which entries of a batch are not dropped.

        Args:
            inputs: tensor.
            layer: int or scalar uint32 tensor.
            rate: float, the fraction that is dropped.

        Returns:
            bool tensor of the shape of `inputs`.
        """
        # Draws need nothing but keys: without this, those of all layers would happen at once.
        with tf.control_dependencies([inputs]):
            if cpu_layers.applies() and self.generator == "threefry":
                return self._fused(inputs, layer, rate)[1]
            shape = tf.shape(inputs, tf.int64)
            count, first = shape[0], self._first(shape[0])
            # Texts may have any length.
            entries = inputs.shape[1:].num_elements() or tf.reduce_prod(shape[1:])
            drawn: Any
            if self.generator == "threefry":
                drawn = _threefry(self._words(layer), first, self.hosts, count, entries)
            else:
                drawn = self._philox(first, count, entries, layer)
            return tf.reshape(drawn >= _limit(rate, drawn.dtype), shape)

    def dropped(self, inputs, layer, rate):
        """A batch after dropout by threefry, as one XLA program.

        Args:
            inputs: tensor.
            layer: int or scalar uint32 tensor.
            rate: float.

        Returns:
            tensor of the same shape, 0 where `kept` is false.
        """

        @tf.custom_gradient
        def apply(inputs):
            with tf.control_dependencies([inputs]):  # see `kept`
                inputs = tf.stop_gradient(inputs)  # see `cpu_layers`
                outputs, kept = self._fused(inputs, layer, rate)
            return outputs, lambda upstream: _scaled(kept, upstream, _scale(rate, upstream.dtype))

        return apply(inputs)

    def _fused(self, inputs, layer, rate):
        """A batch after dropout by threefry, and which of its entries are kept."""
        both = _dropped(inputs.shape.rank, inputs.dtype)(
            inputs,
            tf.stack(self._words(layer)),
            self._first(tf.shape(inputs, tf.int64)[0]),
            tf.constant(self.hosts, tf.int64),
            _limit(rate, tf.uint32),
            _scale(rate, inputs.dtype),
        )
        for of_entries in both:
            of_entries.set_shape(inputs.shape)
        return both

    def _first(self, count):
        """The place of this replica's first example; replicas of a host share its in order."""
        places = count if self.places is None else self.places
        replica: Any = self.replica
        return replica % self.local * places * self.hosts + replica // self.local

    def _words(self, layer):
        """What the numbers depend on, besides the example and the place in it: uint32 scalars."""
        words = [tf.convert_to_tensor(x, tf.uint32) for x in (self.seed, self.number, layer)]
        return [tf.cast(self.step, tf.uint32), *words]

    def _philox(self, first, count, entries, layer):
        groups = -(-entries // _GROUP)  # of an example
        rows = count * self.hosts
        key = tf.cast(self.step, tf.uint64) + tf.constant(self.seed << 32, tf.uint64)
        place = tf.constant(self.number << 32, tf.uint64) + tf.cast(layer, tf.uint64)
        drawn: Any = tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=tf.stack([rows, groups * _GROUP // 2]),
            key=tf.reshape(key, (1,)),
            counter=tf.stack([tf.cast(first * groups, tf.uint64), place]),
            alg=_ALGORITHM,
            dtype=tf.uint32,
        )
        halves: Any = tf.reshape(tf.bitcast(drawn, tf.uint16), (rows, groups * _GROUP))
        # The rows between are the other hosts'.
        return halves[:: self.hosts, :entries]


def _threefry(words, first, every, count, entries):
    """uint32 `(count, entries)`, for the examples `first`, `first + every`, ..."""
    step, seed, number, layer = words
    key = threefry((seed, step), (number, layer))
    # Not in int32, which would be kept on the host unless it is compiled.
    examples = tf.cast(first + tf.range(count) * every, tf.uint32)
    places = tf.cast(tf.range(entries, dtype=tf.int64), tf.uint32)
    return threefry(key, (places[tf.newaxis], examples[:, tf.newaxis]), SHORT)[0]


def _limit(rate, dtype):
    """An entry is kept if the number drawn for it is not below this."""
    return tf.constant(round(rate * 2 ** (8 * dtype.size)), dtype)


def _scale(rate, dtype):
    return tf.constant(1 / (1 - rate), dtype)


@functools.cache
def _dropped(rank, dtype):
    """The program for dropout, whose 330 operations are traced once for all shapes of a rank."""

    def dropped(x, words, first, every, limit, scale):
        """A tensor after dropout, and which of its entries are kept."""
        shape = tf.shape(x, tf.int64)
        entries = tf.reduce_prod(shape[1:])
        drawn: Any = _threefry(tf.unstack(words), first, every, shape[0], entries)
        kept = tf.reshape(drawn >= limit, shape)
        return _scaled(kept, x, scale), kept

    batch, four = tf.TensorSpec([None] * rank, dtype), tf.TensorSpec((4,), tf.uint32)
    scalars = [tf.TensorSpec((), of) for of in (tf.int64, tf.int64, tf.uint32, dtype)]
    return cpu_layers.compiled(dropped, (batch, four, *scalars))


@cpu_layers.compiled
def _scaled(kept, x, scale):
    return tf.where(kept, x * scale, tf.zeros((), x.dtype))


def _hosts(strategy):
    """How many hosts read their own part of the data."""
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return strategy.extended.num_hosts
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        resolver = strategy.cluster_resolver
        return sum(resolver.cluster_spec().num_tasks(job) for job in resolver.cluster_spec().jobs)
    return 1

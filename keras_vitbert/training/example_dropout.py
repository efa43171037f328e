"""Dropout whose random numbers belong to the example, not to the device that holds it.

A Keras layer counts its draws in a variable. Under `tf.distribute` the count is the same on every
replica, so all replicas drop the same units of their first example, of their second and so on, and
a run on another number of replicas drops others. Here the numbers follow from (seed, step, number
of the example in the global batch, pass, layer) alone, by a counter-based generator, which can
begin anywhere in its sequence (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"):

- `threefry`: Threefry-2x32 with 13 rounds, the fewest that the paper finds no fault in, written in
  elementwise operations: XLA fuses them with what they act on, and no number is ever in memory. On
  CPUs and TPUs.
- `philox16`: Philox-4x32-10, which TensorFlow has as one operation. The examples of a replica lie
  one behind the other in the sequence. An entry has 16 bits: rates are multiples of 1/65,536. On
  GPUs.

In a model of your own, `dropout = ExampleDropout(model, seed)` once, and in its `train_step`
`with dropout.keyed(step): ...` around each forward pass.
"""

import contextlib
from typing import Any, Optional

import keras
import tensorflow as tf

from keras_vitbert.configs.architecture import RATES
from keras_vitbert.training import cpu_layers, pass_scope
from keras_vitbert.training.keyed_random import threefry
from tpu.strategy import holder_of_weights

GENERATORS = ("philox16", "threefry")
_ROUNDS = 13
_GROUP = 8  # numbers of 16 bits that Philox makes of a counter
_ALGORITHM = 1  # Philox, among TensorFlow's


@keras.saving.register_keras_serializable(package="keras_vitbert")
class KeyedDropout(keras.layers.Dropout):
    """`keras.layers.Dropout` that draws by example inside of `ExampleDropout.keyed`.

    Elsewhere it is Keras' layer. The first axis of its inputs is that of the batch.

    Attributes:
        number: int, tells the layers of a model from one another. Layers that share a trace
            (`keras_vitbert.training.shared_trace`) have it as a shift from that of the traced one.
    """

    number = 0

    def call(self, inputs, training=False):
        keys = pass_scope.present("keys")
        if keys is None or not training or not self.rate:
            return super().call(inputs, training=training)
        shift = pass_scope.present("dropout_shift")
        number = self.number if shift is None else self.number + shift
        if cpu_layers.applies() and keys.generator == "threefry" and self.noise_shape is None:
            return keys.dropped(inputs, number, self.rate)
        drawn = inputs
        if self.noise_shape is not None:  # one number for all entries of an axis
            drawn = inputs[tuple(slice(size) for size in self.noise_shape)]
        # They need nothing but keys: without this, those of all layers would be drawn at once.
        with tf.control_dependencies([inputs]):
            kept = keys.kept(drawn, number, self.rate)
        scaled = inputs * tf.cast(1 / (1 - self.rate), inputs.dtype)
        return tf.where(kept, scaled, tf.zeros((), inputs.dtype))


class ExampleDropout:
    """Keys the dropout of a model by example.

    Its `keras.layers.Dropout` layers become `KeyedDropout`, those inside of other layers, such as
    `keras.layers.MultiHeadAttention`, as well: they are told to be of another class, so that
    weights, names and configs stay what they are.

    Args:
        model: a built Keras model.
        seed: int in [0, 2**32).
        interleaved: bool, whether host h of H holds the elements h, h + H, ... of a global batch,
            as those of `pipelines.joint_stream` do, or else a part in one piece.
        generator: str, `philox16` or `threefry`; by default that of `generator_of`.

    Raises:
        ValueError: another layer of the model draws random numbers, or a dropout has a noise shape
            with other sizes than None and 1.
    """

    def __init__(self, model, seed=0, interleaved=False, generator=None):
        self.seed, self.interleaved = seed, interleaved
        self.generator = generator or generator_of(tf.distribute.get_strategy())
        self._layers = []
        for layer in model._flatten_layers():
            path = layer.path or layer.name
            if type(layer) is keras.layers.Dropout:
                layer.__class__ = KeyedDropout
            if isinstance(layer, KeyedDropout):
                sizes = layer.noise_shape
                if sizes is not None and (sizes[0] is not None or {*sizes[1:]} - {None, 1}):
                    raise ValueError(
                        f"{path}: the noise_shape {sizes} cannot be keyed by example; give None "
                        "for the batch, and None or 1 for other axes"
                    )
                layer.number = len(self._layers)
                self._layers.append(layer)
            elif isinstance(getattr(layer, "seed_generator", None), keras.random.SeedGenerator):
                raise ValueError(
                    f"{path}: {type(layer).__name__} draws random numbers that are not keyed by "
                    "example; use keras.layers.Dropout"
                )

    def keyed(self, step, number=0, part=0, parts=1, places=None):
        """A scope for one forward pass of a training step, inside a replica.

        Args:
            step: scalar int tensor or int, completed steps.
            number: int in [0, 2**16), distinguishes the forward passes of a step.
            part: scalar int64 tensor or int, which part of the replica's batch it is.
            parts: int, how many equal parts there are.
            places: int, for how many examples of a part there are numbers, where their count
                differs from step to step; by default it is their count.
        """
        if not self._layers:
            return contextlib.nullcontext()
        context = tf.distribute.get_replica_context()
        hosts = _hosts(context.strategy) if self.interleaved else 1
        keys = _Keys(
            self.seed,
            step,
            number,
            self.generator,
            # A part is to its replica what a replica is to its host.
            tf.cast(context.replica_id_in_sync_group, tf.int64) * parts + part,
            context.num_replicas_in_sync // hosts * parts,
            hosts,
            places,
        )
        return pass_scope.using(keys=keys)


def generator_of(strategy):
    """The generator of a strategy's devices: Philox on GPUs, where nothing fuses Threefry.

    Args:
        strategy: `tf.distribute.Strategy`.

    Returns:
        str, of `GENERATORS`.
    """
    return "philox16" if holder_of_weights(strategy) == "gpu" else "threefry"


def drops(config):
    """Whether a model is trained with dropout.

    Args:
        config: mapping with `RATES`, see `ViTBertBackbone`.
    """
    return any(config[name] > 0 for name in RATES)


class _Keys(tf.experimental.ExtensionType):
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
            rate: float, of those that are.

        Returns:
            bool tensor of the shape of `inputs`.
        """
        shape = tf.shape(inputs, tf.int64)
        count = shape[0]
        # Texts may be of any length.
        entries = inputs.shape[1:].num_elements() or tf.reduce_prod(shape[1:])
        drawn: Any
        if self.generator == "threefry":
            drawn = _threefry(self._words(layer), self._first(count), self.hosts, count, entries)
        else:
            drawn = self._philox(self._first(count), count, entries, layer)
        return tf.reshape(drawn >= _limit(rate, drawn.dtype), shape)

    def dropped(self, inputs, layer, rate):
        """A batch after dropout by threefry, as one program of XLA's.

        Args:
            inputs: tensor.
            layer: int or scalar uint32 tensor.
            rate: float.

        Returns:
            tensor of the same shape, 0 where `kept` is false.
        """
        first = self._first(tf.shape(inputs, tf.int64)[0])
        words, scale = tf.stack(self._words(layer)), tf.constant(1 / (1 - rate), inputs.dtype)

        @tf.custom_gradient
        def apply(inputs):
            # They need nothing but keys: without this, those of all layers would be drawn at once.
            with tf.control_dependencies([inputs]):
                inputs = tf.stop_gradient(inputs)  # see `cpu_layers`
                limit = _limit(rate, tf.uint32)
                outputs, kept = _dropped(inputs, words, first, self.hosts, limit, scale)
            return outputs, lambda upstream: _scaled(kept, upstream, scale)

        return apply(inputs)

    def _first(self, count):
        """The place of this replica's first example; a host's replicas share its in order."""
        places = count if self.places is None else self.places
        replica: Any = self.replica
        return replica % self.local * places * self.hosts + replica // self.local

    def _words(self, layer):
        """What numbers follow from, apart from the example and the place in it: uint32 scalars."""
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
        # Those between are the other hosts'.
        return halves[:: self.hosts, :entries]


def _threefry(words, first, every, count, entries):
    """uint32 `(count, entries)`; of examples `first`, `first + every`, ..."""
    step, seed, number, layer = words
    key = threefry((seed, step), (number, layer))
    # Not in int32, which would be kept on the host where it is not compiled.
    examples = tf.cast(first + tf.range(count) * every, tf.uint32)
    places = tf.cast(tf.range(entries, dtype=tf.int64), tf.uint32)
    return threefry(key, (places[tf.newaxis], examples[:, tf.newaxis]), _ROUNDS)[0]


def _limit(rate, dtype):
    """What is drawn for an entry that is kept is not below this."""
    return tf.constant(round(rate * 2 ** (8 * dtype.size)), dtype)


@cpu_layers.compiled
def _dropped(x, words, first, every, limit, scale):
    """A tensor after dropout, and which of its entries are kept."""
    shape = tf.shape(x, tf.int64)
    entries = tf.reduce_prod(shape[1:])
    drawn: Any = _threefry(tf.unstack(words), first, every, shape[0], entries)
    kept = tf.reshape(drawn >= limit, shape)
    return _scaled(kept, x, scale), kept


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

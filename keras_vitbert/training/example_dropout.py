"""Dropout whose random numbers belong to the example, not to the device that holds it.

A Keras layer counts its draws in a variable. Under `tf.distribute` the count is the same on every
replica, so all replicas drop the same units of their first example, of their second and so on, and
a run on another number of replicas drops others. Here the random numbers depend only on (seed,
step, number of the example in the global batch, pass, layer). They come from a counter-based
generator, which can start anywhere in its sequence (Salmon et al. 2011, "Parallel random numbers:
as easy as 1, 2, 3"):

- `threefry`: Threefry-2x32 with 13 rounds, the fewest in which the paper finds no fault, written in
  elementwise operations: XLA fuses them with what they act on, and no number is ever in memory. On
  CPUs and TPUs.
- `philox16`: Philox-4x32-10, which TensorFlow has as one operation. The examples of a replica
  follow one another in the sequence. An entry has 16 bits: rates are multiples of 1/65,536. On
  GPUs.

In your own model, create `dropout = ExampleDropout(model, seed)` once, and in its `train_step` put
`with dropout.keyed(step): ...` around each forward pass.
"""

import contextlib
from typing import Any

import keras

from keras_vitbert.configs.model import RATES
from keras_vitbert.model.tensors import Tensor, ops
from keras_vitbert.training import cpu_layers, step_context
from keras_vitbert.training.backends import backend
from keras_vitbert.training.step_context import Keys

GENERATORS = ("philox16", "threefry")
generator_of = backend.generator_of


@keras.saving.register_keras_serializable(package="keras_vitbert")
class KeyedDropout(keras.layers.Dropout):
    """`keras.layers.Dropout` that draws by example inside `ExampleDropout.keyed`.

    Elsewhere it is Keras' layer. The first axis of its inputs is that of the batch.
    """

    number = 0  # distinguishes the layers of a model

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        keys = step_context.value_of("keys")
        if keys is None or not training or not self.rate:
            return super().call(inputs, training=training)
        if self.noise_shape is None and cpu_layers.applies() and keys.generator == "threefry":
            return cpu_layers.dropout(inputs, keys, self.number, self.rate)
        drawn = inputs
        if self.noise_shape is not None:  # one number for all entries of an axis
            drawn = inputs[tuple(slice(size) for size in self.noise_shape)]
        mask = backend.keep_mask(drawn, keys, self.number, self.rate)
        scaled = inputs * ops.cast(1 / (1 - self.rate), inputs.dtype)
        return ops.where(mask, scaled, ops.zeros((), inputs.dtype))


class ExampleDropout:
    """Keys the dropout of a model by example.

    Its `keras.layers.Dropout` layers become `KeyedDropout`, including those inside other layers,
    such as `keras.layers.MultiHeadAttention`. Only their class changes, so that weights, names and
    configs stay the same. Host h of H holds the examples h, h + H, ... of a global batch; its
    devices share them in order.

    Args:
        model: a built Keras model.
        seed: in [0, 2**32).
        generator: one of `GENERATORS`; by default that of `generator_of`.

    Raises:
        ValueError: another layer of the model draws random numbers, or a dropout has a noise shape
            with sizes other than None and 1.
    """

    def __init__(self, model: keras.Model, seed: int = 0, generator: str | None = None):
        self.seed = seed
        self.generator = generator or generator_of()
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

    def keyed(
        self,
        step: Tensor,
        number: int = 0,
        part: Tensor = 0,
        parts: int = 1,
        places: int | None = None,
    ) -> contextlib.AbstractContextManager[None]:
        """A scope for one forward pass of a training step, inside a replica.

        Args:
            step: completed steps.
            number: in [0, 2**16), distinguishes the forward passes of a step.
            part, parts: the number of a micro-batch, and how many equal ones there are.
            places: how many examples of a micro-batch have numbers, where the count of examples
                differs from step to step; by default it is that count.
        """
        if not self._layers:
            return contextlib.nullcontext()
        words = self.seed, step, number
        return step_context.scope(
            keys=Keys(words, self.generator, part, parts, places, *backend.replica_place())
        )


def drops(config: Any) -> bool:
    """Whether a model is trained with dropout, by a config with `RATES`."""
    return any(getattr(config, name) > 0 for name in RATES)

"""Random numbers of dropout on JAX, keyed by example, for `ExampleDropout`.

They are those of `tensorflow_keys` with Threefry, which XLA fuses with what it acts on, on GPUs
too.
"""

import math

import jax
import jax.numpy as jnp

from keras_vitbert.merging.threefry import SHORT, threefry
from keras_vitbert.training import pass_scope


def generator_of(strategy=None):
    """The generator for the devices: str, Threefry on all of them.

    Args:
        strategy: `tpu.jax_strategy.JaxStrategy`, or None for the one in scope.
    """
    del strategy
    return "threefry"


def keys_of(words, generator, part, parts, places):
    """The random numbers of a forward pass on a device's share of the batch.

    Args:
        words: (seed, step, number of the pass).
        generator, part, parts, places: see `ExampleDropout`.

    Returns:
        `Keys`.

    Raises:
        ValueError: the generator is not Threefry.
    """
    if generator != "threefry":
        raise ValueError(f"generator {generator} is not available on JAX; use threefry")
    strategy = pass_scope.present("strategy")
    if strategy is None:
        return Keys(words, part, parts, places, 1, 1, None)
    devices, hosts = strategy.num_replicas_in_sync, strategy.processes
    return Keys(words, part, parts, places, devices, hosts, strategy.axis)


class Keys:
    """The random numbers of one forward pass.

    Args:
        words: (seed, step, number of the pass).
        part: scalar int tensor or int, which part of each device's share of the batch it is.
        parts: int, how many parts there are.
        places: int, how many examples of a part have numbers; None for the count of examples.
        devices: int, how many share the batch.
        hosts: int, how many take turns.
        axis: str, of the mesh of devices; None with a single device.
    """

    generator = "threefry"

    def __init__(self, words, part, parts, places, devices, hosts, axis):
        self._words, self._part, self._parts, self._places = words, part, parts, places
        self._devices, self._hosts, self._axis = devices, hosts, axis

    def kept(self, inputs, layer, rate):
        """Which entries of a batch are not dropped.

        Args:
            inputs: array.
            layer: int.
            rate: float, the fraction that is dropped.

        Returns:
            bool array of the shape of `inputs`.
        """
        count, *rest = inputs.shape
        seed, step, number, layer = (jnp.asarray(x, jnp.uint32) for x in (*self._words, layer))
        entries = jnp.arange(math.prod(rest), dtype=jnp.uint32)
        counter = entries[None], self._examples(count)[:, None]
        drawn = threefry(threefry((seed, step), (number, layer)), counter, SHORT)[0]
        return jnp.reshape(drawn >= jnp.uint32(round(rate * 2**32)), inputs.shape)

    def _examples(self, count):
        """The numbers of a part's examples in the global batch."""
        place = jnp.arange(count, dtype=jnp.uint32)
        device = jnp.asarray(jax.lax.axis_index(self._axis) if self._axis else 0, jnp.uint32)
        host, device = jnp.divmod(device, jnp.uint32(self._devices // self._hosts))
        part = device * self._parts + jnp.asarray(self._part, jnp.uint32)
        return (part * jnp.uint32(self._places or count) + place) * self._hosts + host

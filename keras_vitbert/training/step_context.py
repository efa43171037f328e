"""A forward pass of a training step: what its layers receive besides inputs; recomputation."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from keras_vitbert.merging.random_numbers import unsigned, word
from keras_vitbert.model.tensors import Tensor

_scope = threading.local()  # each replica is traced in a thread of its own


def value_of(name: str) -> Any:
    """The value of a name in the innermost scope; None if there is none."""
    return _values().get(name)


@contextlib.contextmanager
def scope(**values: Any) -> Iterator[None]:
    """A scope with these values in addition to those of the scopes around it."""
    before = _values()
    _scope.values = {**before, **values}
    try:
        yield
    finally:
        _scope.values = before


def _values() -> dict[str, Any]:
    return getattr(_scope, "values", {})


class Keys:
    """What the random numbers of a forward pass depend on, on this replica.

    `words` are seed, step and number of the pass; for the rest see `ExampleDropout.keyed`.
    """

    def __init__(
        self,
        words: tuple[int, Tensor, int],
        generator: str,
        part: Tensor,
        parts: int,
        places: int | None,
        replica: Tensor,
        host: Tensor,
        hosts: int,
    ):
        self.generator = generator
        self._words, self._part, self._parts, self._places = words, part, parts, places
        # The replica among those of its host, the host, and how many hosts take turns.
        self._replica, self._host, self.hosts = replica, host, hosts

    def words(self, layer: int) -> list[Tensor]:
        """Seed, step, number and layer as uint32 scalars."""
        return [unsigned(x) for x in (*self._words, layer)]

    def first(self, count: Tensor) -> Tensor:
        """The number of the first of `count` examples in the global batch, uint32."""
        part = self._replica * word(self._parts) + unsigned(self._part)
        return part * unsigned(self._places or count) * word(self.hosts) + self._host


def recompute(layers: Sequence[keras.layers.Layer]) -> None:
    """Makes layers compute their inner values again in the backward pass of a training step.

    The step keeps the inputs of the layers, and the inner values of one at a time, at the cost of
    one more forward pass (Chen et al. 2016, "Training deep nets with sublinear memory cost"). Calls
    outside of training, weights, names and configs stay the same. Dropout draws the same numbers
    again, as it is keyed (`keras_vitbert.training.example_dropout`); Keras' own dropout would draw
    others, and the gradient would be that of another function. The layers are built, and a tensor
    is the first argument of their calls.
    """
    for layer in layers:
        if not hasattr(layer.call, "recomputes"):
            layer.call = _recomputing(layer.call)


def _recomputing(call: Callable) -> Callable:
    @functools.wraps(call)
    def recomputing(
        inputs: Tensor, *args: Any, training: bool | None = None, **options: Any
    ) -> Tensor:
        if not training:
            return call(inputs, *args, training=training, **options)
        values = _values()

        def again(inputs: Tensor) -> Tensor:
            with scope(**values):  # a backend may trace it once more outside of the step's scopes
                return call(inputs, *args, training=True, **options)

        return keras.remat(again)(inputs)

    recomputing.recomputes = True  # pyright: ignore[reportAttributeAccessIssue]
    return recomputing

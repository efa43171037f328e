"""KerasCV's augmentation layers as part of the training step, on the device.

Their random numbers are keyed by the example, many examples at once. `tf.random.stateless_uniform`
has one key for a whole tensor. Here each example has its own, so that its numbers do not depend on
where in a batch it is, on how many replicas share the batch, or on where a run was resumed. The
generator is `keras_vitbert.merging.random_numbers.threefry`.
"""

import contextlib
import functools
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import keras
import tensorflow as tf

from keras_vitbert.merging.random_numbers import threefry
from pipelines.command_line import install, one_line
from pipelines.images.image_decoding import to_floats
from pipelines.images.keras_cv_layers import SET_BY_STEP

_LIGHTEST = 255.0  # the value range that all layers of KerasCV have in common is 0 to 255
_UNIT = 2.0**-24  # the step of the float32 values in [0, 1)


class ImageLayers:
    """Applies layers to the images of a training step, one after another.

    What is done to an image depends on the seed and on the image's number in the stream alone.

    Args:
        layers: `pipelines.images.keras_cv_layers.IMAGE_LAYERS`, as Keras serialises them.
        image_size: in pixels.
        seed: in [0, 2**32).
        key: the config's key for the layers, for messages.

    Raises:
        ValueError: KerasCV is missing, or a layer refuses its arguments.
    """

    def __init__(self, layers: Sequence[dict], image_size: int, seed: int, key: str):
        try:
            import keras_cv  # noqa: F401  registers its classes with Keras
        except ImportError as error:
            raise ValueError(f"KerasCV is not installed; run: {install('keras-cv')}") from error
        self.seed, self.image_size, self.key = seed, image_size, key
        self._draws = KeyedDraws()
        self._layers = []  # which Keras does not see: they have no weights
        for layer in layers:
            with self._refusing(layer["class_name"]):
                self._layers.append(_keyed(_built(layer, image_size), self._draws))
        self._apply = tf.function(self._applied, reduce_retracing=True)

    def __call__(self, images: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """Augments images `(batch, size, size, 3)`, uint8 or float in [0, 1], to the latter.

        `numbers` are int32 `(batch, 2)`, see `pipelines.images.image_views.ImageViews`.
        """
        if not images.dtype.is_floating:
            images = to_floats(images)
        return self._apply(images, numbers)

    def check(self) -> Self:
        """Tries the layers; returns the object itself.

        Raises:
            ValueError: a layer fails, or makes images of another size.
        """
        shape = (2, self.image_size, self.image_size, 3)
        specs = tf.TensorSpec(shape, tf.float32), tf.TensorSpec((2, 2), tf.uint32)
        for layer in self._layers:
            with self._refusing(type(layer).__name__):
                trial = tf.function(functools.partial(self._through, layer, 0))
                made = trial.get_concrete_function(*specs).structured_outputs.shape
                if not made.is_compatible_with(shape):
                    raise ValueError(f"makes images of {tuple(made[1:])}, not {shape[1:]}")
        return self

    def _applied(self, images: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        keys = example_keys(self.seed, numbers)
        images *= _LIGHTEST
        for place, layer in enumerate(self._layers):
            images = self._through(layer, place, images, keys)
        return images / _LIGHTEST

    def _through(
        self, layer: Callable, place: int, images: tf.Tensor, keys: tf.Tensor
    ) -> tf.Tensor:
        """Images in [0, 255] that have gone through a layer."""

        @tf.function  # AutoGraph, which the step does without, is for `if` in these layers
        def one(image_and_key: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            image, key = image_and_key
            with self._draws.scope(key, place):
                return tf.cast(layer(image), tf.float32)

        if _takes_batches(layer):
            with self._draws.scope(keys, place):
                images = tf.cast(layer(images), tf.float32)
        else:
            images = tf.map_fn(one, (images, keys), fn_output_signature=tf.float32)
        return tf.clip_by_value(images, 0.0, _LIGHTEST)

    @contextlib.contextmanager
    def _refusing(self, name: str) -> Iterator[None]:
        """Names the layer in an error."""
        try:
            yield
        except Exception as error:  # a layer may refuse its arguments in any way
            raise ValueError(f"{self.key}: {name}: {one_line(error)}") from error


def image_layers(
    layers: Sequence[dict], image_size: int, seed: int, key: str
) -> ImageLayers | None:
    """`ImageLayers`, or None where there are none; the arguments are the same."""
    return ImageLayers(layers, image_size, seed, key) if layers else None


def _built(value: Any, image_size: int) -> Any:
    """What the serialisation of a layer, or a value in it, stands for.

    KerasCV's layers do not deserialise the layers that they take.
    """
    if isinstance(value, list):
        return [_built(one, image_size) for one in value]
    if not isinstance(value, dict):
        return value
    kind: Any = keras.saving.get_registered_object(f"keras_cv>{value['class_name']}")
    given = value.get("config", {}).items()
    config = {name: _built(one, image_size) for name, one in given if name not in SET_BY_STEP}
    if issubclass(kind, keras.layers.Layer):
        config["dtype"] = "float32"
    own = {"value_range": (0, _LIGHTEST), "target_size": (image_size, image_size)}
    names = inspect.signature(kind).parameters
    layer = kind(**config, **{name: one for name, one in own.items() if name in names})
    # A fill with noise depends on the other images of the batch, or fails.
    refused = {"batchwise": True, "auto_vectorize": True, "fill_mode": "gaussian_noise"}
    for name, one in refused.items():
        if config.get(name) == one:
            raise ValueError(f"{name} must not be {one}")
    return layer


def _takes_batches(layer: Any) -> bool:
    """Whether a layer of KerasCV draws for many images at once, or does not draw."""
    from keras_cv import layers

    kinds = layers.VectorizedBaseImageAugmentationLayer, layers.Posterization
    return isinstance(layer, kinds)


def _keyed(layer: Any, draws: "KeyedDraws") -> Any:
    """The layer of KerasCV itself: it, and the layers in it, now take random numbers of `draws`."""
    from keras_cv import core, layers

    def keyed(value: Any) -> Any:
        if isinstance(value, core.UniformFactorSampler):
            return lambda shape=(), dtype="float32": draws.uniform(
                shape, value.lower, value.upper, dtype
            )
        if isinstance(value, keras.layers.Layer):
            return _keyed(value, draws)
        if isinstance(value, list | tuple):
            for one in value:
                keyed(one)
        return value

    if layer._random_generator is draws:  # done before: RandAugment has its layers twice
        return layer
    layer._random_generator = draws
    layer.built = True  # else Keras would try it in the first call, and count its draws
    for name, value in list(vars(layer).items()):
        if (changed := keyed(value)) is not value:
            setattr(layer, name, changed)
    if isinstance(layer, layers.RandomApply):
        layer._augment = functools.partial(_apply_at_random, layer)
    if isinstance(layer, layers.RandomJpegQuality):
        _scale_jpeg(layer)
    return layer


def _apply_at_random(layer: Any, inputs: Any) -> Any:
    """`RandomApply` for one image, as AutoGraph does not reach its `if`."""
    return tf.cond(layer._should_augment(), lambda: layer._layer(inputs), lambda: inputs)


def _scale_jpeg(layer: Any) -> None:
    """Makes `RandomJpegQuality` take images in [0, 255]: it assumes that floats are in [0, 1]."""
    of_units = layer.augment_image
    layer.augment_image = lambda image, **more: of_units(image / _LIGHTEST, **more) * _LIGHTEST


# --- random numbers ------------------------------------------------------------------------------


def example_keys(seed: int, numbers: tf.Tensor) -> tf.Tensor:
    """The keys of examples `(batch, 2)`, uint32, from a seed in [0, 2**32) and their numbers.

    The numbers are int32 `(batch, 2)`, the low and the high word of each.
    """
    words = tf.unstack(tf.bitcast(numbers, tf.uint32), axis=-1)
    key = tf.constant(seed, tf.uint32), tf.constant(0, tf.uint32)
    return tf.stack(threefry(key, words), axis=-1)


class KeyedDraws:
    """Stands in for `tf.random.Generator` where a layer draws its random numbers.

    The place of a draw is its number among the layer's draws, in the order in which the graph is
    made. Draws work only inside `scope`.
    """

    _keys: Any = None
    _place = 0

    @contextlib.contextmanager
    def scope(self, keys: tf.Tensor, layer: int = 0) -> Iterator[None]:
        """Sets the keys for draws inside the block; `layer` is in [0, 2**11).

        `keys` are uint32 `(batch, 2)`, and the first axis of what is drawn is that of the batch; or
        `(2,)`, for one example.
        """
        before = self._keys, self._place
        self._keys, self._place = keys, layer << 20
        try:
            yield
        finally:
            self._keys, self._place = before

    def uniform(
        self,
        shape: Any,
        minval: Any = 0,
        maxval: Any = None,
        dtype: Any = tf.float32,
        name: str | None = None,
    ) -> tf.Tensor:
        """Uniform random numbers in [minval, maxval); see `tf.random.Generator.uniform`.

        The first size of the shape is the batch's if there are many keys. The bounds are numbers or
        tensors that broadcast with the result, 0 and 1 by default.
        """
        unit = self._unit(shape)
        low = tf.cast(minval, tf.float32)
        high = tf.cast(1 if maxval is None else maxval, tf.float32)
        drawn = low + (high - low) * unit
        return tf.cast(tf.floor(drawn) if tf.as_dtype(dtype).is_integer else drawn, dtype)

    def _unit(self, shape: Any) -> tf.Tensor:
        """Multiples of 2**-24 in [0, 1), float32."""
        sizes = shape if self._keys.shape.rank == 1 else shape[1:]
        # The size of a batch of one image may be a tensor.
        rest = [int(tf.get_static_value(size) or 1) for size in sizes]
        bits = self._bits(math.prod(rest))
        whole = tf.bitcast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.int32)
        lead = tf.shape(self._keys)[:-1]
        return tf.reshape(tf.cast(whole, tf.float32) * _UNIT, tf.concat([lead, rest], 0))

    def _bits(self, count: int) -> tf.Tensor:
        """uint32 `(batch, count)` or `(count,)`."""
        pairs = -(-count // 2)
        self._place += 1
        counter = tf.constant(self._place, tf.uint32), tf.cast(tf.range(pairs), tf.uint32)
        key = tuple(tf.expand_dims(word, -1) for word in tf.unstack(self._keys, axis=-1))
        both: Any = tf.concat(threefry(key, counter), axis=-1)
        return both[..., :count]

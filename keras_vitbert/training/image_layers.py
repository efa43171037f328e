"""KerasCV's augmentation layers as part of the training step, on the device.

Their random numbers are keyed by the example, many examples at once. `tf.random.stateless_uniform`
has one key for a whole tensor. Here each example has its own, so that its numbers do not depend on
where in a batch it is, on how many replicas share the batch, or on where a run was resumed. The
generator is `keras_vitbert.merging.random_numbers.threefry`.
"""

import contextlib
import functools
import inspect
import logging
import math
from typing import Any

import keras
import tensorflow as tf

from keras_vitbert.merging.random_numbers import threefry
from pipelines.command_line import install, one_line
from pipelines.images.image_decoding import to_floats
from pipelines.images.keras_cv_layers import SET_BY_STEP

_LIGHTEST = 255.0  # the value range that all layers of KerasCV have in common is 0 to 255
_UNIT = 2.0**-24  # the step of the float32 values in [0, 1)
_FOLDED = 1 << 31  # the first word of a folded counter; that of a draw is smaller


class ImageLayers:
    """Applies layers to the images of a training step, one after another.

    What is done to an image depends on the seed and on the image's number in the stream alone.

    Args:
        layers: sequence of dicts, as Keras serialises layers of KerasCV; see
            `pipelines.images.keras_cv_layers.IMAGE_LAYERS`.
        image_size: int, in pixels.
        seed: int in [0, 2**32).
        key: str, the config's key for the layers, for messages.

    Raises:
        ValueError: KerasCV is missing, or a layer refuses its arguments.
    """

    def __init__(self, layers, image_size, seed, key):
        try:
            import keras_cv  # noqa: F401  registers its classes with Keras
        except ImportError as error:
            raise ValueError(f"KerasCV is not installed; run: {install('keras-cv')}") from error
        logging.getLogger("tensorflow").addFilter(_is_news)
        self.seed, self.image_size, self.key = seed, image_size, key
        self._draws = KeyedDraws()
        self._layers = []  # which Keras does not see: they have no weights
        for layer in layers:
            with self._refusing(layer["class_name"]):
                self._layers.append(_keyed(_built(layer, image_size), self._draws))
        self._apply = tf.function(self._applied, reduce_retracing=True)

    def __call__(self, images, numbers):
        """Augments images.

        Args:
            images: tensor `(batch, size, size, 3)`, uint8 or float in [0, 1].
            numbers: int32 tensor `(batch, 2)`, see `pipelines.images.image_views.ImageViews`.

        Returns:
            float32 tensor `(batch, size, size, 3)` in [0, 1].
        """
        if not images.dtype.is_floating:
            images = to_floats(images)
        return self._apply(images, numbers)

    def check(self):
        """Tries the layers; returns the object itself.

        Raises:
            ValueError: a layer fails, or makes images of another size.
        """
        shape = (2, self.image_size, self.image_size, 3)
        specs = tf.TensorSpec(shape, tf.float32), tf.TensorSpec((2, 2), tf.uint32)
        for layer in self._layers:
            with self._refusing(type(layer).__name__):
                trial = tf.function(functools.partial(self._through, layer, 0))
                found = trial.get_concrete_function(*specs).structured_outputs.shape
                if not found.is_compatible_with(shape):
                    raise ValueError(f"makes images of {tuple(found[1:])}, not {shape[1:]}")
        return self

    def _applied(self, images, numbers):
        keys = example_keys(self.seed, numbers)
        images *= _LIGHTEST
        for place, layer in enumerate(self._layers):
            images = self._through(layer, place, images, keys)
        return images / _LIGHTEST

    def _through(self, layer, place, images, keys):
        """Images in [0, 255] that have gone through a layer."""

        @tf.function  # AutoGraph, which the step does without, is for `if` in these layers
        def one(image_and_key):
            image, key = image_and_key
            with self._draws.using(key, place):
                return tf.cast(layer(image), tf.float32)

        if _takes_batches(layer):
            with self._draws.using(keys, place):
                images = tf.cast(layer(images), tf.float32)
        else:
            images = tf.map_fn(one, (images, keys), fn_output_signature=tf.float32)
        return tf.clip_by_value(images, 0.0, _LIGHTEST)

    @contextlib.contextmanager
    def _refusing(self, name):
        """Names the layer in an error."""
        try:
            yield
        except Exception as error:  # a layer may refuse its arguments in any way
            raise ValueError(f"{self.key}: {name}: {one_line(error)}") from error


def image_layers(layers, image_size, seed, key):
    """`ImageLayers`, or None where there are none; the arguments are the same."""
    return ImageLayers(layers, image_size, seed, key) if layers else None


def _built(value, image_size):
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
    if config.get("batchwise") or config.get("auto_vectorize"):
        raise ValueError("batchwise and auto_vectorize must be false")
    # A fill with noise depends on the other images of the batch, or fails.
    if config.get("fill_mode") == "gaussian_noise":
        raise ValueError("fill_mode must not be gaussian_noise")
    return layer


def _is_news(record):
    """False for TensorFlow's note that Equalization makes its histograms in a loop."""
    return "HistogramFixedWidth" not in record.getMessage()


def _takes_batches(layer):
    """Whether a layer of KerasCV draws for many images at once, or does not draw."""
    from keras_cv import layers

    kinds = layers.VectorizedBaseImageAugmentationLayer, layers.Posterization
    return isinstance(layer, kinds)


def _keyed(layer, draws):
    """The layer of KerasCV itself: it, and the layers in it, now take random numbers of `draws`."""
    from keras_cv import core, layers

    def keyed(value):
        if isinstance(value, core.UniformFactorSampler):
            return lambda shape=(), dtype="float32": draws.uniform(
                shape, value.lower, value.upper, dtype
            )
        if isinstance(value, core.NormalFactorSampler):
            return lambda shape=(), dtype="float32": tf.clip_by_value(
                draws.normal(shape, value.mean, value.stddev, dtype),
                value.min_value,
                value.max_value,
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
        if (found := keyed(value)) is not value:
            setattr(layer, name, found)
    if isinstance(layer, layers.RandomApply):
        layer._augment = functools.partial(_apply_at_random, layer)
    if isinstance(layer, layers.AugMix):
        _key_augmix(layer, draws)
    if isinstance(layer, layers.RandomJpegQuality):
        _scale_jpeg(layer)
    return layer


def _apply_at_random(layer, inputs):
    """`RandomApply` for one image, as AutoGraph does not reach its `if`."""
    return tf.cond(layer._should_augment(), lambda: layer._layer(inputs), lambda: inputs)


def _scale_jpeg(layer: Any):
    """Makes `RandomJpegQuality` take images in [0, 255]: it assumes that floats are in [0, 1]."""
    of_units = layer.augment_image
    layer.augment_image = lambda image, **more: of_units(image / _LIGHTEST, **more) * _LIGHTEST


def _key_augmix(layer, draws):
    """Gives `AugMix` keyed random numbers: it samples weights itself, and draws inside loops."""

    def dirichlet(alpha):
        found = draws.gamma(alpha.shape, alpha)
        return found / tf.reduce_sum(found)

    def beta(alpha, other):
        one, two = draws.gamma((), alpha), draws.gamma((), other)
        return one / (one + two)

    on_width, on_depth = layer._loop_on_width, layer._loop_on_depth

    def loop_on_width(image, weights, chain, result):
        with draws.iteration(chain[0]):
            return on_width(image, weights, chain, result)

    def loop_on_depth(depth, image):
        with draws.iteration(depth[0]):
            return on_depth(depth, image)

    layer._sample_from_dirichlet, layer._sample_from_beta = dirichlet, beta
    layer._loop_on_width, layer._loop_on_depth = loop_on_width, loop_on_depth


# --- random numbers ------------------------------------------------------------------------------


def example_keys(seed: int, numbers: Any) -> Any:
    """The keys of examples `(batch, 2)`, uint32, from a seed in [0, 2**32) and their numbers.

    The numbers are int32 `(batch, 2)`, the low and the high word of each.
    """
    words = tf.unstack(tf.bitcast(numbers, tf.uint32), axis=-1)
    key = tf.constant(seed, tf.uint32), tf.constant(0, tf.uint32)
    return tf.stack(threefry(key, words), axis=-1)


class KeyedDraws:
    """Stands in for `tf.random.Generator` where a layer draws its random numbers.

    The place of a draw is its number among the layer's draws, in the order in which the graph is
    made. Draws work only inside `using`.
    """

    def __init__(self):
        self._keys: Any = None
        self._place = 0

    @contextlib.contextmanager
    def using(self, keys, layer=0):
        """Sets the keys for draws inside the block.

        Args:
            keys: uint32 tensor: `(batch, 2)`, and the first axis of what is drawn is that of the
                batch; or `(2,)`, for one example.
            layer: int in [0, 2**11), distinguishes the layers of one example.
        """
        before = self._keys, self._place
        self._keys, self._place = keys, layer << 20
        try:
            yield
        finally:
            self._keys, self._place = before

    @contextlib.contextmanager
    def iteration(self, number):
        """A block that a `tf.while_loop` runs repeatedly.

        The number, a scalar int32 tensor, distinguishes the iterations.
        """
        words = tf.constant(_FOLDED + self._next_place(), tf.uint32), tf.cast(number, tf.uint32)
        keys = tf.stack(threefry(tf.unstack(self._keys, axis=-1), words), axis=-1)
        with self.using(keys):
            yield

    def uniform(self, shape, minval=0, maxval=None, dtype=tf.float32, name=None):
        """Uniform random numbers in [minval, maxval); see `tf.random.Generator.uniform`.

        The first size of the shape is the batch's if there are many keys. The bounds are numbers or
        tensors that broadcast with the result, 0 and 1 by default.
        """
        del name
        unit = self._unit(shape)
        low = tf.cast(minval, tf.float32)
        high = tf.cast(1 if maxval is None else maxval, tf.float32)
        drawn = low + (high - low) * unit
        return tf.cast(tf.floor(drawn) if tf.as_dtype(dtype).is_integer else drawn, dtype)

    def normal(self, shape, mean=0.0, stddev=1.0, dtype=tf.float32):
        """Normal random numbers, see `uniform`."""
        # At the midpoints between the values of `_unit`, as 0 would become infinite.
        return tf.cast(mean + stddev * tf.math.ndtri(self._unit(shape) + _UNIT / 2), dtype)

    def gamma(self, shape, alpha):
        """Samples of Gamma(alpha, 1), for one example."""
        words = self._bits(2)
        return tf.random.stateless_gamma(shape, tf.bitcast(words, tf.int32), alpha)

    def _unit(self, shape):
        """Multiples of 2**-24 in [0, 1), float32."""
        sizes = shape if self._keys.shape.rank == 1 else shape[1:]
        # The size of a batch of one image may be a tensor.
        rest = [int(tf.get_static_value(size) or 1) for size in sizes]
        bits = self._bits(math.prod(rest))
        whole = tf.bitcast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.int32)
        lead = tf.shape(self._keys)[:-1]
        return tf.reshape(tf.cast(whole, tf.float32) * _UNIT, tf.concat([lead, rest], 0))

    def _bits(self, count):
        """uint32 tensor `(batch, count)` or `(count,)`."""
        pairs = -(-count // 2)
        place = tf.constant(self._next_place(), tf.uint32)
        counter = place, tf.cast(tf.range(pairs), tf.uint32)
        key = tuple(tf.expand_dims(word, -1) for word in tf.unstack(self._keys, axis=-1))
        both: Any = tf.concat(threefry(key, counter), axis=-1)
        return both[..., :count]

    def _next_place(self):
        self._place += 1
        return self._place

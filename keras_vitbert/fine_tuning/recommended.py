"""Settings that follow from a user's own data and from the checkpoint.

In the configs of the tasks `images` and `texts`, these keys are empty unless they are given. The
values chosen for them are recorded, and a resumed run keeps them.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_vitbert.configs.checks import batch_unit
from keras_vitbert.configs.fine_tuning import CHOSEN, IMAGES, TEXTS, open_keys
from keras_vitbert.configs.overrides import flatten
from keras_vitbert.runs.record_errors import reading_images

SMALL = 64  # pixels; smaller images lose their subject when cropped like ImageNet's
_BATCH = 64
_PASSES = 30  # over the training images
_STEPS = 300, 10_000  # at least, at most; the paper trains CIFAR for 10,000
_FINER = 384 / 224  # the paper pre-trains at 224 pixels and fine-tunes at 384
# The learning rate of AdamW times the width of the encoder: 1e-3 for the sample's 128, 1.7e-4 for
# the base model's 768. As in Yang et al. 2022, the best rate falls as the width grows.
_RATE = 0.128
# The same on texts: 7.8e-5 for BERT-base, 4.7e-4 for the sample's width, in the range that Turc et
# al. 2019 searched for BERTs of all sizes. Random weights are not better off with another one.
_TEXT_RATE = 0.06
# Few texts are read more often, as Mosbach et al. 2021 advise: until so many were read. More
# passes made models surer, and one of three more often right; see docs/results.md.
_TEXTS_READ = 12_000
_TEXT_PASSES = 3, 20  # at least, as for BERT; at most
_LOOKED_AT = 64  # images


@dataclasses.dataclass(frozen=True)
class Pictures:
    """The sizes and channels of some of a store's images.

    Attributes:
        sizes: int array `(images, 2)`, heights and widths in pixels.
        channels: int array `(images,)`: 1 grey, 2 grey and transparency, 3 colours, 4 colours and
            transparency.
    """

    sizes: np.ndarray
    channels: np.ndarray

    @property
    def side(self):
        """The median of the shorter sides, in pixels."""
        return int(np.median(self.sizes.min(axis=1)))


def look_at(store):
    """Looks at the first images of a store.

    Args:
        store: `ImageFiles`, `ImageCells` or `ImageRecordFiles`.

    Returns:
        `Pictures`.

    Raises:
        ValueError: an image cannot be decoded.
    """

    def shape(element):
        encoded, _ = store.read(element)
        return tf.shape(tf.io.decode_image(encoded, expand_animations=False))

    shapes = store.in_order(0, min(_LOOKED_AT, store.count)).map(shape)
    with reading_images([store]):
        found = np.array(list(shapes.as_numpy_iterator()))
    return Pictures(found[:, :2], found[:, 2])


def choose(config, model, count, pictures, replicas=1, fits=lambda config: None, recorded=None):
    """Fills in the open keys of a config for images.

    Args:
        config: `ConfigDict` of fine-tuning on images; changed.
        model: dict, the `model` section of the checkpoint.
        count: int, training images.
        pictures: `Pictures`.
        replicas: int; a batch is a multiple of it.
        fits: function of the config that raises `ValueError` if its batch does not fit into memory.
        recorded: dict, the config of the run that is resumed, or None.

    Returns:
        list of str, the keys that were filled in.
    """
    keys = open_keys(config)
    _restore(config, recorded, CHOSEN[IMAGES])
    if "image_size" in (left := open_keys(config)):
        config.image_size = _image_size(model, pictures.side)
    if "images.crop_area" in left:
        is_small = pictures.side < SMALL
        config.images.crop_area = (0.8, 1.0) if is_small else (0.08, 1.0)
    if "batch" in left:
        unit = batch_unit(config, replicas, config.images.mixup or config.images.cutmix)
        config.batch = max(min(_BATCH, 1 << max(count.bit_length() - 1, 0)) // unit, 1) * unit
        while config.batch > unit:
            try:
                fits(config)
                break
            except ValueError:
                config.batch = max(config.batch // 2 // unit, 1) * unit
    if "steps" in left:
        least, most = _STEPS
        config.steps = int(np.clip(round(_PASSES * count / config.batch), least, most))
    if "optimizer.learning_rate" in left:
        config.optimizer.learning_rate = _rate(_RATE, model)
    return keys


def choose_for_texts(config, model, count, recorded=None):
    """Fills in the open keys of a config for texts.

    Args:
        config: `ConfigDict` of fine-tuning on texts; changed.
        model: dict, the `model` section of the checkpoint.
        count: int, training texts.
        recorded: dict, the config of the run that is resumed, or None.

    Returns:
        list of str, the keys that were filled in.
    """
    keys = open_keys(config)
    _restore(config, recorded, CHOSEN[TEXTS])
    left = open_keys(config)
    least, most = _TEXT_PASSES
    if "epochs" in left:
        config.epochs = float(np.clip(round(_TEXTS_READ / count), least, most))
    if config.steps and "epochs" in keys:  # then it has no effect
        keys.remove("epochs")
    if "optimizer.learning_rate" in left:
        config.optimizer.learning_rate = _rate(_TEXT_RATE, model)
    return keys


def _restore(config, recorded, chosen):
    """Sets the open keys that a recorded config has."""
    known = flatten(recorded or {})
    for key in open_keys(config):
        if key in known:
            config.update_from_flattened_dict({key: _as(chosen[key], known[key])})


def _rate(base, model):
    return float(f"{base / model['hidden_dim']:.1e}")


def _as(empty, value):
    return tuple(value) if isinstance(empty, list) else value


def _image_size(model, side):
    """The checkpoint's size, or a larger multiple of its patch if the images are larger."""
    patch, own = model["patch_size"], model["image_size"]
    wanted = min(side, round(own * _FINER))
    return max(own, -(-wanted // patch) * patch)

"""How the gradients of the two modalities become one (eq. 8, eq. 9 and Algorithm 1).

A merge is one replaceable object with `merge(text_gradients, image_gradients)` and the `loss` to
report. Both losses reach the shared encoder; any other variable is reached by one loss only and
gets that loss's gradient. Merges with masks also have `refreshed(text_gradients, count)`, one
update of Algorithm 1, and `keep`, which makes its result the masks.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.training.selection import smallest


class GradientSum(keras.layers.Layer):
    """`dL = r dL_image + (1 - r) dL_text` (eq. 9), the joint baseline.

    Args:
        image_loss_ratio: float in [0, 1], `r`; the paper's best is 0.2.
    """

    masked = False

    def __init__(self, image_loss_ratio=0.2, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= image_loss_ratio <= 1:
            raise ValueError(f"image_loss_ratio {image_loss_ratio} is not in [0, 1]")
        self.image_loss_ratio = image_loss_ratio

    def loss(self, text_loss, image_loss):
        """The loss whose gradient `merge` returns.

        Args:
            text_loss, image_loss: scalar tensors.
        """
        return self.image_loss_ratio * image_loss + (1 - self.image_loss_ratio) * text_loss

    def merge(self, text_gradients, image_gradients):
        """Merges the gradients of the two losses (eq. 9).

        Args:
            text_gradients, image_gradients: lists of tensors in the order of the trainable
                variables, with None where a loss does not reach a variable.

        Returns:
            list of tensors in the same order.
        """
        r = self.image_loss_ratio
        merged = []
        for text, image in zip(text_gradients, image_gradients, strict=True):
            terms = [] if text is None else [(1 - r) * text]
            terms += [] if image is None else [r * image]
            merged.append(sum(terms[1:], terms[0]) if terms else None)
        return merged


class GradientMask(keras.layers.Layer):
    """`G = M dL_text + (1 - M) dL_image` on the shared encoder (eq. 8), `M` by Algorithm 1.

    `M` starts as all ones. Each update clears those of the remaining ones that have the smallest
    `|dL_text|` over the whole shared encoder. A cleared entry stays cleared.
    """

    masked = True

    def make_masks(self, shared_variables):
        """Makes a boolean mask for each shared variable.

        Every replica computes the same mask from the summed gradient and keeps its own copy: to
        aggregate masks, `TPUStrategy` would send every replica's copy to every other. This is not
        `build`, whose arguments Keras keeps: the encoder would count as the merge's variables.

        Args:
            shared_variables: list of Keras variables, in the order of the gradients.
        """
        self.masks = [
            self.add_weight(
                name=f"mask_{variable.path.replace('/', '_')}",
                shape=variable.shape,
                dtype="bool",
                initializer="ones",
                trainable=False,
            )
            for variable in shared_variables
        ]

    @property
    def size(self):
        """int, the number of entries of `M`."""
        return sum(mask.shape.num_elements() for mask in self.masks)

    @property
    def cleared(self):
        """int, the number of entries that are cleared."""
        masks = (np.asarray(keras.ops.convert_to_numpy(mask.value)) for mask in self.masks)
        return self.size - sum(int(np.count_nonzero(mask)) for mask in masks)

    def loss(self, text_loss, image_loss):
        """The sum, for the log: a masked gradient is not the gradient of a loss.

        Args:
            text_loss, image_loss: scalar tensors.
        """
        return text_loss + image_loss

    def merge(self, text_gradients, image_gradients, masks=None):
        """Merges the gradients of the two losses (eq. 8).

        Args:
            text_gradients, image_gradients: lists of tensors in the order of the trainable
                variables, with None where a loss does not reach a variable.
            masks: what `refreshed` returns, in place of the present masks.

        Returns:
            list of tensors in the same order.
        """
        masks = iter(masks or [mask.value for mask in self.masks])
        merged = []
        for text, image in zip(text_gradients, image_gradients, strict=True):
            if text is None or image is None:
                merged.append(image if text is None else text)
            else:
                merged.append(tf.where(next(masks), text, image))
        return merged

    def refreshed(self, text_gradients, count):
        """The masks after one update of Algorithm 1, which clears `count` more entries.

        Args:
            text_gradients: list of `dL_text` of the shared variables, summed over all replicas.
            count: scalar int32 tensor; 0 leaves the masks as they are, at no cost.

        Returns:
            list of bool tensors.
        """
        masks = [tf.convert_to_tensor(mask.value) for mask in self.masks]
        # With a batch of unknown size some gradients have no static shape.
        shaped = [
            tf.ensure_shape(g, mask.shape) for g, mask in zip(text_gradients, masks, strict=True)
        ]

        def cleared():
            marks = smallest(self.importance(shaped), masks, count)
            return [mask & ~mark for mask, mark in zip(masks, marks, strict=True)]

        return tf.cond(count > 0, cleared, lambda: list(masks))

    def keep(self, masks, good=True):
        """Replaces the masks by refreshed ones.

        Args:
            masks: what `refreshed` returns.
            good: scalar bool tensor; if it is False, the present masks stay.
        """
        for variable, value in zip(self.masks, masks, strict=True):
            variable.assign(tf.where(good, value, variable.value))

    def importance(self, text_gradients):
        """The values that entries are ranked by; the smallest are cleared.

        Args:
            text_gradients: list of tensors.

        Returns:
            list of float tensors of the same shapes.
        """
        return text_gradients


class RandomGradientMask(GradientMask):
    """The random-mask baseline of Figure 2: the same schedule, entries cleared at random.

    Args:
        seed: int. The random numbers depend on it and on the number of refreshes only.
    """

    def __init__(self, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed

    def make_masks(self, shared_variables):
        super().make_masks(shared_variables)
        self.refreshes = self.add_weight(
            name="refreshes",
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
        )

    def keep(self, masks, good=True):
        super().keep(masks, good)
        self.refreshes.assign(self.refreshes.value + tf.cast(good, tf.int32))

    def importance(self, text_gradients):
        draws = self.refreshes.value * len(text_gradients)  # before this refresh
        numbers = []
        for index, gradient in enumerate(text_gradients):
            key = tf.stack([tf.constant(self.seed % 2**31), draws + index])
            numbers.append(tf.random.stateless_uniform(gradient.shape, key))
        return numbers


def get_merge(config, seed=0):
    """Builds the merge of a config's `merge` section.

    Args:
        config: mapping with `name` (`sum`, `mask` or `random_mask`) and `image_loss_ratio`.
        seed: int, for `random_mask`.

    Raises:
        ValueError: the name is unknown.
    """
    if config["name"] == "sum":
        return GradientSum(config["image_loss_ratio"], name="merge")
    if config["name"] == "mask":
        return GradientMask(name="merge")
    if config["name"] == "random_mask":
        return RandomGradientMask(seed, name="merge")
    raise ValueError(f"unknown merge {config['name']!r}; known are sum, mask, random_mask")


def cleared_after(updates, size, mask_ratio, mask_ratio_per_update):
    """How many entries Algorithm 1 has cleared after a number of updates.

    The sparsity grows by `mask_ratio_per_update` per update, up to `mask_ratio`. Only the total is
    rounded, so rounding errors do not accumulate.

    Args:
        updates: int.
        size: int, entries of the masks.
        mask_ratio, mask_ratio_per_update: float.

    Returns:
        int in [0, size].
    """
    return round(min(updates * mask_ratio_per_update, mask_ratio) * size)

"""What weightings of two gradients decide by and return; weightings of whole losses.

These weigh heads and embeddings like the encoder. `gradient_balancing` has those that decide by
inner products.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras

from keras_vitbert.configs import merges
from keras_vitbert.configs.sections import Section
from keras_vitbert.merging.random_numbers import normal_pair
from keras_vitbert.model.tensors import Tensor, ops

State = list[tuple[keras.Variable, Tensor]]  # variables, each with its next value

_LEAST = 1e-8  # nats, so that a loss has a logarithm


class Products(NamedTuple):
    """Norms and cosine of two gradients, with a row for each block or one for all.

    They take the place of the three inner products, so that no value that a merge computes
    overflows unless a weight does. All are float32 `(rows,)`.
    """

    text_norm: Tensor  # `|t|`
    image_norm: Tensor  # `|i|`
    cosine: Tensor  # in [-1, 1]; 0 where a gradient is 0


def square_sums(text: Sequence[Tensor], image: Sequence[Tensor]) -> Tensor:
    """`<t, t>`, `<i, i>` and `<t, i>` of two gradients in several tensors: float32 `(3,)`."""

    def inner_product(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        sums = [ops.sum(a * b) for a, b in zip(first, second, strict=True)]
        return ops.sum(ops.cast(ops.stack(sums), "float32"))

    pairs = (text, text), (image, image), (text, image)
    return ops.stack([inner_product(*pair) for pair in pairs])


def products(sums: Tensor) -> Products:
    """`Products` of rows of `square_sums`, `(rows, 3)`."""
    text_norm, image_norm = ops.sqrt(sums[:, 0]), ops.sqrt(sums[:, 1])
    cosine = ops.divide_no_nan(ops.divide_no_nan(sums[:, 2], text_norm), image_norm)
    return Products(text_norm, image_norm, ops.clip(cosine, -1.0, 1.0))


class Weights(NamedTuple):
    """How much of each gradient goes into a task's part of the merged one.

    The text's part is `text * t + image_in_text * i`, the image's is
    `image * i + text_in_image * t`. The merged gradient is their sum or, with a mask, takes each
    entry from one of them. Values are floats, or float32 `(rows,)`, one for each block or for all.
    """

    text: Tensor = 1.0
    image: Tensor = 1.0
    image_in_text: Tensor = 0.0
    text_in_image: Tensor = 0.0


class Weighting(keras.layers.Layer):
    """The base class of all weightings of the gradients of two tasks, called text and image.

    A subclass declares what it needs, and the step provides no more.

    Attributes:
        options: of the type `Options`, which has their defaults and ranges.
        needs_products: whether it needs the inner products of the gradients, summed over all
            replicas. If so, both gradients are summed; otherwise merging is linear, and only the
            merged gradient is summed.
        needs_losses: whether it needs both losses over the global batch.
        is_fixed: whether the weights are numbers that no step changes.
        weighs_losses: whether the weights are those of the losses, so that they also act on
            variables that only one task reaches.

    Raises:
        ValueError: an option is out of range.
    """

    Options: type[Section] = Section
    needs_products = False
    needs_losses = False
    weighs_losses = False
    is_fixed = False

    def __init__(self, *, name: str | None = None, **options: Any):
        super().__init__(name=name)
        self.options: Any = self.Options(**options)

    def make_state(self, rows: int) -> None:
        """Makes the variables of `weigh`; with as many rows as blocks are weighted separately."""

    def state_weight(
        self, name: str, shape: tuple, initializer: str = "zeros", dtype: str = "float32"
    ) -> keras.Variable:
        """Makes a variable of the state."""
        return self.add_weight(
            name=name, shape=shape, initializer=initializer, dtype=dtype, trainable=False
        )

    def loss(self, text_loss: Tensor, image_loss: Tensor) -> Tensor:
        """The loss to report and to judge a step by; most weightings have none: this is the sum."""
        return text_loss + image_loss

    @abstractmethod
    def weigh(self, products: Any, losses: Any, step: Tensor) -> tuple[Weights, State]:
        """Weighs the gradients of a step.

        Args:
            products: `Products`, or None if it does not need them.
            losses: pair of scalar float32 tensors, of the text and the image; or None.
            step: scalar int tensor, completed steps.
        """

    def learn(self, losses: Any, losses_again: Callable[[], Any]) -> State:
        """The state after an update, see `Merge.learn`; `losses_again` takes a forward pass."""
        return []


class Unit(Weighting):
    """Leaves each task's gradient as it is: `t + i`, or eq. 8 with a mask."""

    is_fixed = True

    def weigh(self, products: Any, losses: Any, step: Tensor) -> tuple[Weights, State]:
        return Weights(), []


class Sum(Weighting):
    """`dL = r dL_image + (1 - r) dL_text` (eq. 9), fixed weights: the joint baseline.

    Args:
        image_loss_ratio: `r`; the paper's best is 0.2.
    """

    is_fixed = True
    weighs_losses = True

    def __init__(self, image_loss_ratio: float = 0.2, name: str | None = None):
        super().__init__(name=name)
        merges.Merge(image_loss_ratio=image_loss_ratio)  # which knows the range
        self.image_loss_ratio = image_loss_ratio

    def loss(self, text_loss: Tensor, image_loss: Tensor) -> Tensor:
        """The loss whose gradient the merge returns."""
        return self.image_loss_ratio * image_loss + (1 - self.image_loss_ratio) * text_loss

    def weigh(self, products: Any, losses: Any, step: Tensor) -> tuple[Weights, State]:
        return Weights(1 - self.image_loss_ratio, self.image_loss_ratio), []


# --- the losses ----------------------------------------------------------------------------------


class Uncertainty(Weighting):
    """Learned log-variances (Kendall et al. 2018, eq. 10, for classification).

    The loss is the sum of `exp(-s) L + s / 2` over both tasks, with `s = log sigma^2`. Each `s`
    descends its own gradient `1/2 - exp(-s) L` and rests at `s = log 2 L`, where the weight is
    `1 / (2 L)`. The paper trains `s` with the network's optimiser, whose rate would barely move it;
    here it is plain gradient descent with a separate rate.

    Args:
        rate: learning rate of the log-variances.
    """

    Options = merges.Uncertainty
    weighs_losses = True
    needs_losses = True

    def make_state(self, rows: int) -> None:
        self.log_variances = self.state_weight("log_variances", (2,))

    def weigh(self, products: Any, losses: Any, step: Tensor) -> tuple[Weights, State]:
        before = ops.convert_to_tensor(self.log_variances.value)
        weights = ops.exp(-before)
        after = before - self.options.rate * (0.5 - weights * ops.stack(losses))
        return _pair(weights), [(self.log_variances, after)]


class DWA(Weighting):
    """Dynamic weight average (Liu et al. 2019, "End-to-end multi-task learning", eq. 7).

    `w = 2 softmax(r / T)` with `r` a task's last mean loss divided by the one before: a task that
    descends slowly weighs more. The paper averages over an epoch of its data; here it is over a
    window of steps. Until two windows are over, the weights are 1.

    Args:
        temperature: `T`; the paper has 2.
        window: in steps.
    """

    Options = merges.DWA
    weighs_losses = True
    needs_losses = True

    def make_state(self, rows: int) -> None:
        self.total = self.state_weight("total", (2,))
        self.count = self.state_weight("count", (), dtype="int32")
        self.last = self.state_weight("last", (2,))
        self.before = self.state_weight("before", (2,))

    def weigh(self, products: Any, losses: Any, step: Tensor) -> tuple[Weights, State]:
        total, last, before = (
            ops.convert_to_tensor(v.value) for v in (self.total, self.last, self.before)
        )
        ratios = ops.divide_no_nan(last, before)
        weights = 2 * ops.softmax(ratios / self.options.temperature)
        weights = ops.where(ops.min(before) > 0, weights, 1.0)
        total, count = total + ops.stack(losses), self.count.value + 1
        full = count >= self.options.window
        mean = total / ops.cast(count, "float32")
        return _pair(weights), [
            (self.total, ops.where(full, 0.0, total)),
            (self.count, ops.where(full, 0, count)),
            (self.last, ops.where(full, mean, last)),
            (self.before, ops.where(full, last, before)),
        ]


class GradNorm(Weighting):
    """Equal training rates, from the norms of the gradients (Chen et al. 2018, algorithm 1).

    The weights, whose sum stays 2, descend the gradient of `sum |w n - m r^alpha|`. `n` is the norm
    of a task's gradient, `m` the mean of `w n`, and `r` the loss divided by the first one and by
    the mean of these quotients; the target `m r^alpha` counts as a constant. The paper takes the
    norms in the last shared layer; here they are those of the shared encoder. Here the gradient of
    the weights is also divided by `m`, so that the rate does not depend on the scale of the losses.
    The paper's experiments move `w` by Adam; here it is gradient descent, as in the algorithm.

    Args:
        alpha: how much more a slow task weighs; the paper has 0.12 and 1.5.
        rate: learning rate of the weights; the paper has 0.025.
    """

    Options = merges.GradNorm
    weighs_losses = True
    needs_losses = True
    needs_products = True

    def make_state(self, rows: int) -> None:
        self.task_weights = self.state_weight("task_weights", (2,), "ones")
        self.first = self.state_weight("first_losses", (2,))

    def weigh(self, products: Any, losses: Any, step: Tensor) -> tuple[Weights, State]:
        weights = ops.convert_to_tensor(self.task_weights.value)
        losses = ops.stack(losses)
        first = ops.where(self.first.value > 0, self.first.value, losses)
        norms = ops.stack([products.text_norm[0], products.image_norm[0]])
        weighted = weights * norms
        mean = ops.mean(weighted)
        speed = ops.divide_no_nan(losses, first)
        target = mean * ops.power(ops.divide_no_nan(speed, ops.mean(speed)), self.options.alpha)
        slope = ops.sign(weighted - target) * ops.divide_no_nan(norms, mean)
        moved = ops.maximum(weights - self.options.rate * slope, 1e-3)
        return _pair(weights), [
            (self.task_weights, 2 * moved / ops.sum(moved)),
            (self.first, first),
        ]


class FAMO(Weighting):
    """Equal progress for both losses, without their gradients (Liu et al. 2023, eq. 10 to 12).

    `w = c z / L` with `z = softmax(x)` and `c = 1 / sum(z / L)`. After the update, `x` descends
    `J d + decay x`: `d` is how much the logarithm of each loss has fallen on the same batch, and
    `J` is the softmax's Jacobian. The authors' code moves `x` by Adam; this is eq. 12.

    Args:
        rate: learning rate of `x`; the paper has 0.025.
        decay: see above.
    """

    Options = merges.FAMO
    weighs_losses = True
    needs_losses = True

    def make_state(self, rows: int) -> None:
        self.logits = self.state_weight("logits", (2,))

    def weigh(self, products: Any, losses: Any, step: Tensor) -> tuple[Weights, State]:
        share = ops.softmax(ops.convert_to_tensor(self.logits.value))
        weights = share / ops.maximum(ops.stack(losses), _LEAST)
        return _pair(weights / ops.sum(weights)), []

    def learn(self, losses: Any, losses_again: Callable[[], Any]) -> State:
        logits = ops.convert_to_tensor(self.logits.value)
        share = ops.softmax(logits)
        before, after = (
            ops.log(ops.maximum(ops.stack(x), _LEAST)) for x in (losses, losses_again())
        )
        fallen = before - after
        slope = share * (fallen - ops.sum(share * fallen))
        return [(self.logits, logits - self.options.rate * (slope + self.options.decay * logits))]


class RandomWeights(Weighting):
    """New weights in each step, drawn at random (Lin et al. 2022, random loss weighting).

    They are the softmax of two normal random numbers, keyed by seed and step.

    Args:
        seed: in [0, 2**32).
    """

    weighs_losses = True

    def __init__(self, seed: int = 0, name: str | None = None):
        super().__init__(name=name)
        self.seed = seed

    def weigh(self, products: Any, losses: Any, step: Tensor) -> tuple[Weights, State]:
        return _pair(ops.softmax(normal_pair(self.seed, step))), []


class Alternate(Weighting):
    """One modality per step, text first; UML (arXiv 2510.08492) alternates modalities.

    Both losses are computed, and one has weight 0, also in the optimiser's moments.
    """

    weighs_losses = True

    def weigh(self, products: Any, losses: Any, step: Tensor) -> tuple[Weights, State]:
        odd = ops.cast(ops.cast(step, "int32") % 2, "float32")
        return Weights(1 - odd, odd), []


def _pair(values: Tensor) -> Weights:
    """`Weights` of a tensor `(2,)`."""
    text, image = ops.unstack(values, 2)
    return Weights(text, image)

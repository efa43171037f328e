"""Merges that decide by the inner products of the two gradients.

`t` and `i` are the gradients of text and image on the shared encoder, `c` is their cosine, `u` and
`v` are `t` and `i` divided by their norms. With two tasks each method is a closed form, or one root
that bisection finds. Some share a direction and differ in length, which only the clip sees:

- `PCGrad` and `UPGrad`: the second is half the first;
- the bisector `u + v` of the two directions: `Nash`, `IMTLG`, `ConFIG`, `NTKMTL` with exponent 0.5
  and `FairGrad` with alpha 1.

A gradient of 0 adds nothing. `MGDA` and `IMTLG`, no longer than the shorter gradient, are then 0.
Opposite gradients (`c = -1`) leave little or nothing, as no direction helps both tasks.
"""

from abc import abstractmethod

from keras_vitbert.configs import merges
from keras_vitbert.merging.weighting import Products, State, Weighting, Weights
from keras_vitbert.model.tensors import Tensor, ops

# If `1 + c` is below this, the bisector's direction is only rounding error.
_OPPOSITE = 1e-6
_HALVINGS = 40  # of an interval, in a bisection
_WIDEST = 80.0  # bound on logarithms: its `exp` is finite in float32


class _ByProducts(Weighting):
    needs_products = True

    def weigh(self, products: Products, losses: Tensor, step: Tensor) -> tuple[Weights, State]:
        return self.weights_of(*products), []

    @abstractmethod
    def weights_of(self, text_norm: Tensor, image_norm: Tensor, cosine: Tensor) -> Weights:
        """The weights for each row; the arguments are those of `Products`."""


class PCGrad(_ByProducts):
    """Removes from each gradient what points against the other (Yu et al. 2020, algorithm 1).

    If `<t, i> < 0`: the sum of `t - <t, i>/<i, i> i` and `i - <t, i>/<t, t> t`. With two tasks the
    paper's random order has no effect. Length: that of `t + i` without conflict, 0 at `c = -1`.
    """

    share = 1.0

    def weights_of(self, text_norm: Tensor, image_norm: Tensor, cosine: Tensor) -> Weights:
        against = self.share * ops.maximum(-cosine, 0.0)
        return Weights(
            self.share,
            self.share,
            image_in_text=against * ops.divide_no_nan(text_norm, image_norm),
            text_in_image=against * ops.divide_no_nan(image_norm, text_norm),
        )


class UPGrad(PCGrad):
    """The mean of the projections onto the dual cone (Quinton and Rey 2024, eq. 4).

    The dual cone holds the vectors that point against neither gradient. With two tasks the
    projections are those of PCGrad, so this is half of PCGrad. The paper's weights are free; here
    they are 1/2 each.
    """

    share = 0.5


class DualProj(_ByProducts):
    """The mean gradient, projected onto the dual cone (Lopez-Paz and Ranzato 2017, eq. 11).

    If the mean points against `t`, what remains is `i/2` without its component along `t`, and vice
    versa. The paper's memory of past tasks is here the other gradient.
    """

    def weights_of(self, text_norm: Tensor, image_norm: Tensor, cosine: Tensor) -> Weights:
        ratio = ops.divide_no_nan(image_norm, text_norm)
        back = ops.divide_no_nan(text_norm, image_norm)
        against_text = text_norm + cosine * image_norm < 0
        against_image = image_norm + cosine * text_norm < 0
        return Weights(
            ops.where(against_text, -0.5 * cosine * ratio, 0.5),
            ops.where(against_image, -0.5 * cosine * back, 0.5),
        )


class MGDA(_ByProducts):
    """The shortest vector in the convex hull (Sener and Koltun 2018, eq. 4; Désidéri 2012).

    `w t + (1 - w) i` with `w = <i - t, i> / |t - i|^2`, clipped to [0, 1]. Equal gradients leave
    `w` undetermined; it is then 1/2. Length: at most that of the shorter gradient, which alone
    decides if the other is much longer.
    """

    def weights_of(self, text_norm: Tensor, image_norm: Tensor, cosine: Tensor) -> Weights:
        return Weights(*_least(text_norm, image_norm, cosine))


class SDMGrad(_ByProducts):
    """MGDA drawn towards the mean gradient (Xiao et al. 2023, arXiv 2305.18409).

    `(g_w + lambda g_0) / (1 + lambda)` with `g_0 = (t + i) / 2` and the `w` that makes it shortest.
    The paper estimates this `w` in steps on independent batches, to avoid bias; here `w` is exact
    for the one batch at hand. `lambda` 0 is MGDA, a large `lambda` the mean.

    Args:
        strength: `lambda`.
    """

    Options = merges.SDMGrad

    def weights_of(self, text_norm: Tensor, image_norm: Tensor, cosine: Tensor) -> Weights:
        share = self.options.strength / 2 / (1 + self.options.strength)  # of the mean, in each
        shortest = _least(text_norm, image_norm, cosine)
        return Weights(*(ops.clip(weight, share, 1 - share) for weight in shortest))


class CAGrad(_ByProducts):
    """The best worst case in a ball around the mean gradient (Liu et al. 2021, eq. 3).

    `d` with `|d - g_0| <= c |g_0|`, `g_0 = (t + i) / 2`, for which the smaller of `<t, d>` and
    `<i, d>` is largest: `d = g_0 + c |g_0| / |g_w| g_w` with the `w` that minimises
    `<g_w, g_0> + c |g_0| |g_w|`, a closed form. The authors' code divides `d` by `1 + c^2`; the
    paper and this class do not. Length: between `1 - c` and `1 + c` times that of `g_0`.

    Args:
        radius: `c`; 0 is the mean.
    """

    Options = merges.CAGrad

    def weights_of(self, text_norm: Tensor, image_norm: Tensor, cosine: Tensor) -> Weights:
        t, i = _relative(text_norm, image_norm)
        radius = self.options.radius * _length(0.5 * t, 0.5 * i, cosine)
        # <g_w, g_0> is `slope w` plus a constant; |g_w|^2 is `apart (w - at)^2 + floor`.
        slope = (t - i) * (t + i) / 2
        apart = (t - i) ** 2 + 2 * t * i * (1 - cosine)
        at = ops.where(apart > 0, ops.divide_no_nan(i * (i - cosine * t), apart), 0.5)
        floor = ops.divide_no_nan((t * i) ** 2 * (1 - cosine) * (1 + cosine), apart)
        # Where the ball's term grows faster than the slope falls, there is a minimum.
        left = radius * radius * apart - slope * slope
        moved = -slope * ops.sqrt(ops.divide_no_nan(floor, ops.maximum(apart * left, 0.0)))
        end = ops.where(slope > 0, 0.0, 1.0)
        text = ops.where(left > 0, ops.clip(at + moved, 0.0, 1.0), end)
        text = ops.where(slope == 0, ops.clip(at, 0.0, 1.0), text)
        image = 1 - text
        share = ops.divide_no_nan(radius, _length(text * t, image * i, cosine))
        return Weights(0.5 + share * text, 0.5 + share * image)


class Nash(_ByProducts):
    """The Nash bargaining solution (Navon et al. 2022, algorithm 1).

    Weights `a` with `<t, d> = 1 / a_t` and `<i, d> = 1 / a_i` for `d = a_t t + a_i i`. With two
    tasks `a_t = 1 / (|t| sqrt(1 + c))`. Length: the square root of 2, whatever the gradients are.
    """

    def weights_of(self, text_norm: Tensor, image_norm: Tensor, cosine: Tensor) -> Weights:
        length = _over_root(1 + cosine)
        return Weights(ops.divide_no_nan(length, text_norm), ops.divide_no_nan(length, image_norm))


class FairGrad(_ByProducts):
    """Fairness of order `alpha` in the decrease of the losses (Ban and Ji 2024, eq. 4).

    Weights `w` with `<t, d> = w_t^(-1/alpha)` and `<i, d> = w_i^(-1/alpha)` for
    `d = w_t t + w_i i`. With `alpha` 1 this is Nash; a large `alpha` lets the slower task decide.
    Bisection finds the one root.

    Args:
        alpha: the authors tune it, 1 and 2 among others.
    """

    Options = merges.FairGrad

    def weights_of(self, text_norm: Tensor, image_norm: Tensor, cosine: Tensor) -> Weights:
        # If one gradient is 0, the other one stands alone.
        text_log, image_log = (
            _log(ops.where(norm > 0, norm, other))
            for norm, other in ((text_norm, image_norm), (image_norm, text_norm))
        )
        # With z = w_t |t| / (w_i |i|) both conditions become one, which grows with log z.
        power = 1 / self.options.alpha
        log_ratio = (power - 1) * (text_log - image_log)
        bound = ops.minimum(ops.where(cosine < 0, -_log(-cosine), _WIDEST), _WIDEST)

        def halve(_: Tensor, ends: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            low, high = ends
            middle = (low + high) / 2
            z = ops.exp(middle)
            grown = _log(z + cosine) - _log(1 + cosine * z) + power * middle > log_ratio
            return ops.where(grown, low, middle), ops.where(grown, middle, high)

        low, high = ops.fori_loop(0, _HALVINGS, halve, (-bound, bound))
        log_z = (low + high) / 2
        # The larger of w_t |t| and w_i |i| from its own condition; the other's may be all rounding.
        below = ops.exp(-ops.abs(log_z))
        log_norm = ops.where(log_z > 0, text_log, image_log)
        log_larger = ((power - 1) * log_norm - _log(1 + cosine * below)) / (1 + power)
        larger = ops.where(1 + cosine > _OPPOSITE, ops.exp(log_larger), 0.0)
        text = ops.where(log_z > 0, larger, larger * below)
        image = ops.where(log_z > 0, larger * below, larger)
        return Weights(ops.divide_no_nan(text, text_norm), ops.divide_no_nan(image, image_norm))


class IMTLG(_ByProducts):
    """Equal projections onto both directions (Liu et al. 2021, "Towards impartial", eq. 1 and 2).

    `d = w t + (1 - w) i` with `<u, d> = <v, d>`: `w = |i| / (|t| + |i|)`. Equal directions leave
    `w` undetermined; this is its limit. Length: `|t| |i| sqrt(2 + 2 c) / (|t| + |i|)`.
    """

    def weights_of(self, text_norm: Tensor, image_norm: Tensor, cosine: Tensor) -> Weights:
        both = text_norm + image_norm
        return Weights(ops.divide_no_nan(image_norm, both), ops.divide_no_nan(text_norm, both))


class ConFIG(_ByProducts):
    """Free of conflict, with the summed length of both projections (Liu et al. 2024, eq. 2).

    The unit bisector, times `<t, .> + <i, .>`: `(|t| + |i|) / 2 (u + v)`. Length:
    `(|t| + |i|) sqrt((1 + c) / 2)`. If one gradient is 0, the other stays as it is.
    """

    def weights_of(self, text_norm: Tensor, image_norm: Tensor, cosine: Tensor) -> Weights:
        both = text_norm + image_norm
        half = ops.where(ops.minimum(text_norm, image_norm) > 0, both / 2, both)
        return Weights(ops.divide_no_nan(half, text_norm), ops.divide_no_nan(half, image_norm))


class NTKMTL(_ByProducts):
    """Equal convergence speeds, from the tasks' tangent kernels (Qin et al. 2025, eq. 15).

    `w_t = ((|t|^2 + |i|^2) / (2 |t|^2))^exponent`. What counts is the largest eigenvalue of a
    task's kernel over `n` parts of the batch; this is the paper's `n = 1`, where the eigenvalue is
    the squared norm. The paper's exponent of 1/2 gives the bisector, with length
    `sqrt(|t|^2 + |i|^2) sqrt(1 + c)`. The authors' code has the sum of the squares in place of
    their mean.

    Args:
        exponent: 0 is the sum.
    """

    Options = merges.NTKMTL

    def weights_of(self, text_norm: Tensor, image_norm: Tensor, cosine: Tensor) -> Weights:
        t, i = _relative(text_norm, image_norm)
        mean = ops.sqrt((t * t + i * i) / 2)

        def weight(norm: Tensor) -> Tensor:
            return ops.power(ops.divide_no_nan(mean, norm), 2 * self.options.exponent)

        return Weights(weight(t), weight(i))


class Aligned(_ByProducts):
    """Makes all singular values of the two gradients equal to the smallest (Senushkin et al. 2023).

    Aligned-MTL, their algorithm 1: `w = s_min (G G^T)^(-1/2) (1/2, 1/2)`. `G G^T` is the
    matrix of inner products, whose inverse root is a closed form. Values of 0 do not count, as in
    the authors' code: gradients that are parallel up to rounding keep their component along the one
    direction, and a gradient some 2000 times as long as the other is kept, halved. The paper's task
    weights are free; here they are 1/2 each.
    """

    def weights_of(self, text_norm: Tensor, image_norm: Tensor, cosine: Tensor) -> Weights:
        t, i = _relative(text_norm, image_norm)
        tt, ii, ti = t * t, i * i, cosine * t * i
        root_det = t * i * ops.sqrt(ops.maximum((1 - cosine) * (1 + cosine), 0.0))
        trace = tt + ii
        larger = (trace + ops.sqrt((tt - ii) ** 2 + 4 * ti * ti)) / 2
        scale = ops.sqrt((trace + 2 * root_det) * larger)
        text = ops.divide_no_nan(0.5 * (ii + root_det - ti), scale)
        image = ops.divide_no_nan(0.5 * (tt + root_det - ti), scale)
        # With one singular value: its direction in the space of tasks, the first eigenvector's.
        along = ops.divide_no_nan(0.5 * (tt + ti), trace), ops.divide_no_nan(0.5 * (ii + ti), trace)
        has_two = root_det * root_det > 2 * _EPSILON * larger * larger
        return Weights(ops.where(has_two, text, along[0]), ops.where(has_two, image, along[1]))


class GradVac(Weighting):
    """Brings two gradients as close as they have been on average (Wang et al. 2021).

    Where the cosine is below the moving average `p`, each task's gradient gets as much of the other
    as would make their cosine `p`. Then the average moves. With `p = 0` this is PCGrad. The paper
    does not say where the average starts; here it starts at 0.

    Args:
        beta: how fast the average moves.
    """

    Options = merges.GradVac
    needs_products = True

    def make_state(self, rows: int) -> None:
        self.target = self.state_weight("target_cosine", (rows,))

    def weigh(self, products: Products, losses: Tensor, step: Tensor) -> tuple[Weights, State]:
        text_norm, image_norm, cosine = products
        target = ops.convert_to_tensor(self.target.value)
        sine, target_sine = (
            ops.sqrt(ops.maximum((1 - x) * (1 + x), 0.0)) for x in (cosine, target)
        )
        # An average of 1 would ask for an infinite gradient.
        target_sine = ops.maximum(target_sine, 1e-3)
        added = (target * sine - cosine * target_sine) / target_sine
        added = ops.where(cosine < target, added, 0.0)
        weights = Weights(
            1.0,
            1.0,
            image_in_text=added * ops.divide_no_nan(text_norm, image_norm),
            text_in_image=added * ops.divide_no_nan(image_norm, text_norm),
        )
        return weights, [(self.target, target + self.options.beta * (cosine - target))]


_EPSILON = 2.0**-23  # of float32
_TINIEST = 2.0**-126


def _relative(text_norm: Tensor, image_norm: Tensor) -> tuple[Tensor, Tensor]:
    """Both norms divided by the larger one, so that their squares stay in range."""
    larger = ops.maximum(text_norm, image_norm)
    return ops.divide_no_nan(text_norm, larger), ops.divide_no_nan(image_norm, larger)


def _length(text: Tensor, image: Tensor, cosine: Tensor) -> Tensor:
    """The length of the sum of two gradients with these norms, as exact as `1 + c`."""
    return ops.sqrt((text - image) ** 2 + 2 * text * image * (1 + cosine))


def _least(text_norm: Tensor, image_norm: Tensor, cosine: Tensor) -> tuple[Tensor, Tensor]:
    """Both weights in the shortest vector between two gradients; 1/2 if they are equal."""
    t, i = _relative(text_norm, image_norm)
    text = ops.maximum(i * (i - cosine * t), 0.0)
    image = ops.maximum(t * (t - cosine * i), 0.0)
    both = text + image
    text, image = (ops.where(both > 0, ops.divide_no_nan(x, both), 0.5) for x in (text, image))
    return text, image


def _over_root(one_and_cosine: Tensor) -> Tensor:
    """`1 / sqrt(1 + c)`, and 0 where the gradients are opposite."""
    is_open = one_and_cosine > _OPPOSITE
    return ops.where(is_open, 1 / ops.sqrt(ops.maximum(one_and_cosine, _OPPOSITE)), 0.0)


def _log(values: Tensor) -> Tensor:
    """The logarithm, finite at 0 and below."""
    return ops.log(ops.maximum(values, _TINIEST))

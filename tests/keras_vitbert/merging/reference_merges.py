"""Merges of any number of tasks in NumPy and float64, as their papers define them.

Written from the definitions, for any number of tasks `k`, and not from the closed forms for two.
Gradients are an array `(k, n)`, a row for each task. What is returned are weights: `(k,)` of the
gradients in the merged one or, where a method changes each task's gradient, `(k, k)`, whose row is
what the task's gradient is made of.
"""

import math

import numpy as np
from scipy.optimize import nnls

# --- gradients changed task by task --------------------------------------------------------------


def pcgrad(gradients):
    """Yu et al. 2020, algorithm 1; the order of the other tasks matters from three tasks on."""
    made_of = np.eye(len(gradients))
    for i, row in enumerate(made_of):
        for j, other in enumerate(gradients):
            inner = row @ gradients @ other
            if j != i and inner < 0:
                row[j] -= inner / (other @ other)
    return made_of


def gradvac(gradients, targets, beta):
    """Wang et al. 2021, algorithm 1: the weights and the next targets, `(k, k)` both.

    The cosine with a gradient that is 0 counts as 0.
    """
    made_of, targets = np.eye(len(gradients)), np.array(targets, np.float64)
    for i, row in enumerate(made_of):
        for j, other in enumerate(gradients):
            if j == i:
                continue
            mine = row @ gradients
            norms = np.linalg.norm(mine), np.linalg.norm(other)
            cosine = np.clip(mine @ other / (norms[0] * norms[1]), -1, 1) if min(norms) else 0.0
            target = targets[i, j]
            if cosine < target and min(norms):
                sine, target_sine = math.sqrt(1 - cosine**2), math.sqrt(1 - target**2)
                amount = target * sine - cosine * target_sine
                row[j] += norms[0] * amount / (norms[1] * target_sine)
            targets[i, j] = (1 - beta) * target + beta * cosine
    return made_of, targets


def onto_dual_cone(of, gradients):
    """The weights of `of @ gradients` projected onto what points against no gradient.

    The projection adds that combination with positive weights which makes it shortest (Moreau).
    """
    lengths = np.linalg.norm(gradients, axis=1)
    lengths[lengths == 0] = 1
    units = gradients / lengths[:, None]
    scale = np.linalg.norm(of @ gradients) or 1.0
    added, _ = nnls(units.T, -(of @ gradients) / scale)
    return of + scale * added / lengths


def upgrad(gradients):
    """Quinton and Rey 2024: each gradient projected onto the dual cone; the mean of these."""
    count = len(gradients)
    return np.array([onto_dual_cone(of, gradients) for of in np.eye(count)]) / count


def dualproj(gradients):
    """Lopez-Paz and Ranzato 2017: the mean projected onto the dual cone."""
    return onto_dual_cone(np.full(len(gradients), 1 / len(gradients)), gradients)


# --- points of the hull --------------------------------------------------------------------------


def lowest(slope):
    """The `(w, 1 - w)` in the unit interval where a convex function is least, by halving.

    Both come with all their digits, however near to 0 one is; an end is met exactly.

    Args:
        slope: function of `(w, 1 - w)`.
    """
    middle = slope(0.5, 0.5)
    if middle == 0:
        return np.array([0.5, 0.5])
    low, high = 0.0, 0.5  # of the smaller of both
    for _ in range(200):
        x = (low + high) / 2
        falls = slope(x, 1 - x) < 0 if middle > 0 else slope(1 - x, x) > 0
        low, high = (x, high) if falls else (low, x)
    x = 0.0 if low == 0 else low
    return np.array([x, 1 - x] if middle > 0 else [1 - x, x])


def mgda(gradients):
    """Desideri 2012: the shortest of the hull; two tasks."""
    return sdmgrad(gradients, 0.0)


def sdmgrad(gradients, strength):
    """Xiao et al. 2023: the hull's `g_w` with the shortest `g_w + strength g_0`; two tasks.

    Where all are as short, as of equal gradients, it is the mean.
    """
    first, second = gradients / (np.abs(gradients).max() or 1.0)
    mean = (first + second) / 2

    def slope(w, v):
        return (w * first + v * second + strength * mean) @ (first - second)

    return (lowest(slope) + strength / 2) / (1 + strength)


def cagrad(gradients, radius):
    """Liu et al. 2021, eq. 3, by its dual: `g_0 + radius |g_0| / |g_w| g_w`; two tasks.

    `w` minimises `<g_w, g_0> + radius |g_0| |g_w|`. If `g_w` is 0, nothing is added to `g_0`.
    """
    first, second = gradients / (np.abs(gradients).max() or 1.0)
    mean = (first + second) / 2
    reach = radius * np.linalg.norm(mean)

    def slope(w, v):
        g_w = w * first + v * second
        length = np.linalg.norm(g_w)
        turn = reach * (g_w @ (first - second)) / length if length else 0.0
        return (first - second) @ mean + turn

    weights = lowest(slope)
    length = np.linalg.norm(weights @ np.array([first, second]))
    return 0.5 + (reach / length if length else 0.0) * weights


# --- equations -----------------------------------------------------------------------------------


def fairgrad(gradients, alpha):
    """Ban and Ji 2024, eq. 4: weights with `<g_i, d> = w_i^(-1/alpha)` for `d = sum w_i g_i`.

    They are where the convex `|d|^2 / 2 - sum h(w_i)` with `h' = w^(-1/alpha)` is least, found by
    Newton's method. Gradients that are 0, of which none can be so, get the weight 0.
    """
    power = 1 / alpha
    lengths = np.linalg.norm(gradients, axis=1)
    there = lengths > 0
    units, lengths_there = gradients[there] / lengths[there, None], lengths[there]
    gram = units @ units.T
    factor = lengths_there ** (power - 1)
    # In terms of y = w |g|: gram y = factor y^(-power); begin as if all were orthogonal.
    y = factor ** (1 / (1 + power))

    def wrong(y):
        return gram @ y - factor * y**-power

    for _ in range(500):
        curvature = gram + np.diag(power * factor * y ** (-power - 1))
        move = np.linalg.solve(curvature, -wrong(y))
        decrement = np.abs(move / y).max()
        if decrement < 1e-13:
            break
        share = min(1.0, 0.5 / decrement)
        # The slope along the move must not have changed to rising by much.
        while wrong(y + share * move) @ move > 0 and share > 1e-3 and decrement > 1e-6:
            share /= 2
        y = y + share * move
    weights = np.zeros(len(gradients))
    weights[there] = y / lengths_there
    return weights


def nash(gradients):
    """Navon et al. 2022: weights with `<g_i, d> = 1 / w_i`."""
    return fairgrad(gradients, 1.0)


def imtl_g(gradients):
    """Liu et al. 2021, "Towards impartial", eq. 1 and 2: equal projections, weights of sum 1."""
    units = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    apart = gradients[:1] - gradients[1:]
    units_apart = units[:1] - units[1:]
    others = np.linalg.solve(units_apart @ apart.T, units_apart @ gradients[0])
    return np.array([1 - others.sum(), *others])


def config(gradients):
    """Liu et al. 2024, eq. 2: the direction of the units' pseudo-inverse, times projections.

    Of a gradient that is 0 the unit is 0, as in the authors' code.
    """
    lengths = np.linalg.norm(gradients, axis=1)
    units = gradients / np.where(lengths > 0, lengths, 1.0)[:, None]
    direction = np.linalg.pinv(units) @ np.ones(len(gradients))
    direction /= np.linalg.norm(direction)
    merged = (gradients @ direction).sum() * direction
    return np.linalg.lstsq(gradients.T, merged, rcond=None)[0]


def ntkmtl(gradients, exponent):
    """Qin et al. 2025, eq. 15: by the largest eigenvalue of each task's tangent kernel."""
    largest = [np.linalg.eigvalsh(row[None] @ row[None].T)[-1] for row in gradients]
    return np.array([(np.mean(largest) / one) ** exponent if one else 0.0 for one in largest])


def aligned(gradients, tolerance=2 * 2.0**-23):
    """Senushkin et al. 2023, algorithm 1: the weights of each aligned gradient, `(k, k)`, halved.

    Of a singular value whose square is below `tolerance` times the largest one's square the
    direction is left out; the authors' code has the rounding of float32 in place of 0.
    """
    left, values, _ = np.linalg.svd(gradients, full_matrices=False)
    rank = np.count_nonzero(values**2 > tolerance * values.max() ** 2)
    if not rank:
        return np.zeros((len(gradients), len(gradients)))
    left, values = left[:, :rank], values[:rank]
    return values[-1] * (left / values) @ left.T / len(gradients)


# --- entries -------------------------------------------------------------------------------------


def graddrop(gradients, uniform, leak):
    """Chen et al. 2020, algorithm 1, for parameters: the merged gradient, entry by entry."""
    merged = np.zeros(gradients.shape[1])
    for entry, column in enumerate(gradients.T):
        size = np.abs(column).sum()
        purity = 0.5 * (1 + column.sum() / size) if size else 0.5
        for value in column:
            kept = value > 0 if purity > uniform[entry] else value < 0
            merged[entry] += value if kept else leak * value
    return merged


# --- weights of losses, each step by step --------------------------------------------------------


def softmax(values):
    exps = np.exp(values - np.max(values))
    return exps / exps.sum()


def uncertainty(losses_of_steps, rate):
    """Kendall et al. 2018: `sum exp(-s) L + s / 2`; weights of each step, and `s` at the end."""
    log_variances, history = 0 * losses_of_steps[0], []
    for losses in losses_of_steps:
        history.append(np.exp(-log_variances))
        log_variances = log_variances - rate * (-history[-1] * losses + 0.5)
    return history, log_variances


def dwa(losses_of_steps, temperature, window):
    """Liu et al. 2019, eq. 7, with epochs of `window` steps: the weights of each step."""
    means, history = [], []
    for start in range(0, len(losses_of_steps), window):
        epoch = losses_of_steps[start : start + window]
        weights = np.ones(epoch.shape[1])
        if len(means) >= 2:
            weights = len(weights) * softmax(means[-1] / means[-2] / temperature)
        history += [weights] * len(epoch)
        means.append(epoch.mean(0))
    return history


def gradnorm(losses_of_steps, norms_of_steps, alpha, rate):
    """Chen et al. 2018, algorithm 1, with the gradient of the weights divided by the mean norm."""
    weights, history = np.ones(losses_of_steps.shape[1]), []
    for losses, norms in zip(losses_of_steps, norms_of_steps, strict=True):
        history.append(weights)
        mean = np.mean(weights * norms)
        quotients = losses / losses_of_steps[0]
        targets = mean * (quotients / quotients.mean()) ** alpha
        slopes = norms * np.sign(weights * norms - targets)  # of `sum |w norm - target|`
        weights = weights - rate * slopes / mean
        weights = len(weights) * weights / weights.sum()
    return history, weights


def famo(losses_of_steps, losses_after_steps, rate, decay):
    """Liu et al. 2023: weights of each step, and the logits at the end."""
    logits, history = 0 * losses_of_steps[0], []
    for losses, after in zip(losses_of_steps, losses_after_steps, strict=True):
        z = softmax(logits)
        history.append(z / losses / np.sum(z / losses))
        jacobian = np.diag(z) - np.outer(z, z)
        logits = logits - rate * (jacobian @ (np.log(losses) - np.log(after)) + decay * logits)
    return history, logits

"""What merges and masks make of fixed gradients, on the Keras backend of the environment.

KERAS_BACKEND=jax python -m tests.keras_vitbert.merging.method_script FILE
"""

import sys

import keras
import numpy as np
from keras import ops

from keras_vitbert.configs import merges
from keras_vitbert.merging import GradientMask, Merge, Unit, get_merge
from tests.keras_vitbert.merging.pairs import SHARED

STEPS = 3


def results():
    """dict of name to array."""
    rng = np.random.default_rng(0)
    steps = [
        [[rng.normal(size=v.shape).astype("float32") for v in SHARED] for _ in range(2)]
        for _ in range(STEPS)
    ]
    found = {}
    for name in (*merges.ENTRIES, *merges.WEIGHTINGS, "mask+pcgrad"):
        for per_block in (False, True):
            try:
                merge = get_merge(merges.Merge(name=name, per_block=per_block))
            except ValueError:  # has no weights of a block
                continue
            for key, value in _merged(merge, steps).items():
                found[f"{name}/{per_block}/{key}"] = value
    for criterion in (*merges.RANKS, "random"):
        for scope in merges.SCOPES:
            merge = Merge(Unit(), GradientMask(criterion, scope))
            merge.make_state(SHARED)
            counts = ops.convert_to_tensor(merge.mask.counts(13, 1))
            text, image = ([ops.convert_to_tensor(x) for x in side] for side in steps[0])
            for number, mask in enumerate(merge.mask.refreshed(text, image, counts)):
                found[f"mask/{criterion}/{scope}/{number}"] = mask
    return {name: ops.convert_to_numpy(value) for name, value in found.items()}


def _merged(merge, steps):
    merge.make_state(SHARED)
    found = {}
    for step, (text, image) in enumerate(steps):
        text, image = ([ops.convert_to_tensor(x) for x in side] for side in (text, image))
        own = ops.convert_to_tensor([1.0, 2.0])
        losses = ops.convert_to_tensor(2.0 - step / 4), ops.convert_to_tensor(1.0)
        merged = merge.merge([*text, own, None], [*image, None, own], losses, step)
        merge.keep(merged.state)
        merge.learn(losses, lambda losses=losses: [loss * 0.9 for loss in losses])
        found |= {f"{step}/{n}": gradient for n, gradient in enumerate(merged.gradients)}
    return found | {f"state/{n}": variable.value for n, variable in enumerate(merge.variables)}


if __name__ == "__main__":
    np.savez(sys.argv[1], backend=keras.backend.backend(), **results())

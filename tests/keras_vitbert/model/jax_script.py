"""Loads saved networks on Keras' JAX backend; saves their outputs and gradients.

KERAS_BACKEND=jax python jax_script.py FOLDER
"""

import sys

import jax
import keras
import numpy as np

import keras_vitbert.model.pretraining_network  # noqa: F401  (registers what is loaded)
from keras_vitbert.training.backends import jax as backend

STATES = ("plain", "prepared")


def backward_pass(network, batch):
    """What a training step's backward pass does.

    Returns:
        (list of arrays, the gradients of a sum of all outputs; list of the widths of the values
        between the layers that are kept for it).
    """
    variables = network.trainable_variables

    def total(values):
        with keras.StatelessScope(state_mapping=zip(variables, values, strict=True)):
            outputs = network(batch, training=True)
        return sum((value**2).sum() for value in outputs.values())

    values = [variable.value for variable in variables]
    kept = jax.eval_shape(lambda values: jax.vjp(total, values)[1], values)
    widths = [value.shape[-1] for value in jax.tree.leaves(kept) if len(value.shape) == 3]
    return jax.jit(jax.grad(total))(values), widths


def main(folder):
    assert keras.backend.backend() == "jax"
    batch, outputs = dict(np.load(f"{folder}/batch.npz")), {}
    for name in ("network", "other"):
        network = keras.saving.load_model(f"{folder}/{name}.keras")
        found = {**network(batch), **network.backbone(batch)}
        outputs |= {f"{name}_{key}": value for key, value in found.items()}
    for state in STATES:  # of the last one
        gradients, kept = backward_pass(network, batch)
        outputs[f"{state}_kept"] = jax.numpy.array(kept)
        outputs |= {f"{state}_gradient_{n}": g for n, g in enumerate(gradients)}
        backend.prepare(network)
    assert all(isinstance(value, jax.Array) for value in outputs.values())
    np.savez(f"{folder}/outputs.npz", **outputs)


if __name__ == "__main__":
    main(sys.argv[1])

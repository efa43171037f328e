"""Loads saved networks on Keras' JAX backend; saves their outputs.

KERAS_BACKEND=jax python jax_script.py FOLDER
"""

import sys

import jax
import keras
import numpy as np

import keras_vitbert.model.pretraining_network  # noqa: F401  (registers what is loaded)
from keras_vitbert.training.backends import jax as backend


def kept_widths(network, batch):
    """The widths of the values between the layers that a step keeps for its backward pass."""
    variables = network.trainable_variables

    def total(values):
        with keras.StatelessScope(state_mapping=zip(variables, values, strict=True)):
            outputs = network(batch, training=True)
        return sum((value**2).sum() for value in outputs.values())

    values = [variable.value for variable in variables]
    kept = jax.eval_shape(lambda values: jax.vjp(total, values)[1], values)
    widths = [value.shape[-1] for value in jax.tree.leaves(kept) if len(value.shape) == 3]
    return jax.numpy.array(widths)


def main(folder):
    assert keras.backend.backend() == "jax"
    batch, outputs = dict(np.load(f"{folder}/batch.npz")), {}
    for name in ("network", "other"):
        network = keras.saving.load_model(f"{folder}/{name}.keras")
        found = {**network(batch), **network.backbone(batch)}
        outputs |= {f"{name}_{key}": value for key, value in found.items()}
    outputs["kept"] = kept_widths(network, batch)  # of the last one
    backend.prepare(network)
    outputs["kept_prepared"] = kept_widths(network, batch)
    assert all(isinstance(value, jax.Array) for value in outputs.values())
    np.savez(f"{folder}/outputs.npz", **outputs)


if __name__ == "__main__":
    main(sys.argv[1])

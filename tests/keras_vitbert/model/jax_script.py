"""Loads saved networks on Keras' JAX backend; saves their outputs, losses and their gradient.

KERAS_BACKEND=jax python jax_script.py FOLDER
"""

import sys

import jax
import keras
import numpy as np

import keras_vitbert.model.pretraining_network  # noqa: F401  (registers what is loaded)
from keras_vitbert.training.losses import cross_entropy, distillation_loss

TEMPERATURES = (0, 0.5, 2)


def main(folder):
    assert keras.backend.backend() == "jax"
    batch, outputs = dict(np.load(f"{folder}/batch.npz")), {}
    for name in ("network", "other"):
        network = keras.saving.load_model(f"{folder}/{name}.keras")
        found = {**network(batch), **network.backbone(batch)}
        outputs |= {f"{name}_{key}": value for key, value in found.items()}
    assert all(isinstance(value, jax.Array) for value in outputs.values())
    labels, student, teacher = (batch[n] for n in ("labels", "student", "teacher"))
    outputs["cross_entropy"] = cross_entropy(labels, student)
    for temperature in TEMPERATURES:

        def distillation(student, temperature=temperature):
            return distillation_loss(labels, student, teacher, 0.3, temperature)

        outputs[f"distillation_{temperature}"] = distillation(student)
        gradient = jax.grad(lambda student, loss=distillation: loss(student).sum())
        outputs[f"gradient_{temperature}"] = gradient(student)
    np.savez(f"{folder}/outputs.npz", **outputs)


if __name__ == "__main__":
    main(sys.argv[1])

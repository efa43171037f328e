"""A transformer's step in JAX, compiled for a TPU: what we count of it and what XLA does.

    python -m tests.keras_vitbert.ahead_of_time.work_script

prints JSON: a dict of a measure to (ours, XLA's or what it must be). It is a process of its own, as
libtpu is.
"""

import json
import os
import re

from keras_vitbert.ahead_of_time import compiler, hlo
from tpu.slices import find_slice

for name, value in compiler.ENVIRONMENT.items():
    os.environ.setdefault(name, value)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax._src.lib import xla_client  # noqa: E402

_BATCH, _LENGTH, _WIDTH, _HEADS = 4, 40, 256, 4


def _loss(weights, x):
    wide = {name: w.astype(jnp.bfloat16) for name, w in weights.items()}

    def heads(name):
        return (x @ wide[name]).reshape(_BATCH, _LENGTH, _HEADS, -1)

    scores = jnp.einsum("bqhd,bkhd->bhqk", heads("query"), heads("key"))
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), heads("value"))
    y = x + mixed.reshape(x.shape)
    y = y + jax.nn.gelu(y @ wide["wide"]) @ wide["narrow"]
    return jnp.mean(jnp.square(y.astype(jnp.float32)))


def main():
    """Compiles, counts and prints."""
    shapes = dict.fromkeys(("query", "key", "value"), (_WIDTH, _WIDTH))
    shapes |= {"wide": (_WIDTH, 4 * _WIDTH), "narrow": (4 * _WIDTH, _WIDTH)}
    weights = {name: jax.ShapeDtypeStruct(s, jnp.float32) for name, s in shapes.items()}
    x = jax.ShapeDtypeStruct((_BATCH, _LENGTH, _WIDTH), jnp.bfloat16)

    def step(weights, x):
        gradients = jax.grad(_loss)(weights, x)
        return jax.tree.map(lambda w, g: w - 0.1 * g, weights, gradients)

    text = jax.jit(step).lower(weights, x).as_text()
    for attribute in ("mhlo.num_partitions = 1 : i32, ", "mhlo.num_replicas = 1 : i32"):
        text = text.replace(attribute, "")
    executable = compiler._compile(text, find_slice("v3-8"))
    program = executable.hlo_modules()[0]
    work = hlo.work_of(program.to_string())
    cost = executable.cost_analysis()
    # Without the padding that only a TPU's client knows.
    plain = xla_client._xla.hlo_module_cost_analysis(jax.devices("cpu")[0].client, program)
    unpadded = hlo.work_of(re.sub(r":T\([^}]*", "", program.to_string()))
    tokens = _BATCH * _LENGTH
    products = 3 * 2 * _WIDTH**2  # projections; the input has no gradient
    products += 2 * 3 * _LENGTH * _WIDTH + 2 * 3 * 4 * _WIDTH**2
    found = {
        "bytes": (sum(one.bytes for one in work), cost["bytes accessed"]),
        "unpadded bytes": (sum(one.bytes for one in unpadded), plain["bytes accessed"]),
        "operations": (sum(one.operations for one in work), 2 * tokens * products),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

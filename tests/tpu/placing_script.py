"""One of several processes of JAX that place variables on the devices of all.

KERAS_BACKEND=jax TF_CONFIG=... python -m tests.tpu.placing_script

It prints a JSON object.
"""

import functools
import json
import os

import keras
import numpy as np

from tpu.devices import host_values, is_sharded, new_weights
from tpu.jax_strategy import jax_strategy

SHAPES = {"kernel": (64, 96), "bias": (5,), "count": ()}


def place_variables():
    strategy = jax_strategy(None, None, json.loads(os.environ.pop("TF_CONFIG")), "fsdp")
    rng = np.random.default_rng(0)
    arrays = {name: np.float32(rng.normal(size=shape)) for name, shape in SHAPES.items()}
    with strategy.scope():
        variables = [keras.Variable(array, name=name) for name, array in arrays.items()]
        half = keras.Variable(arrays["kernel"], dtype="bfloat16", name="half")
        different = keras.Variable(np.float32(strategy.process), name="different")
    placed = strategy.place([*variables, half])
    try:
        strategy.place([*variables, different])
        message = ""
    except ValueError as error:
        message = str(error)
    right = [np.array_equal(host_values(v), arrays[v.name]) for v in variables]
    made = []
    for scope in (strategy.scope, functools.partial(new_weights, strategy)):
        keras.utils.set_random_seed(0)
        with scope():
            made.append(keras.Variable("glorot_uniform", SHAPES["kernel"]))
    assert [is_sharded(variable) for variable in made] == [False, True]
    right.append(np.array_equal(*map(host_values, made)))
    return {
        "right": all(right) and host_values(half).dtype == "bfloat16",
        "shares": [array.addressable_shards[0].data.size for array in placed],
        "message": message,
    }


if __name__ == "__main__":
    print(json.dumps(place_variables()))

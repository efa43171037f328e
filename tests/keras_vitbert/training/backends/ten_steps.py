"""The ten steps of `replicas_script` with the backend in use, from weights that are given.

KERAS_BACKEND=jax python -m tests.keras_vitbert.training.backends.ten_steps FOLDER

of all devices that it finds, and with `TF_CONFIG` of all processes.
"""

import json
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.configs import merges
from keras_vitbert.configs.optimizers import PretrainingOptimizer
from keras_vitbert.merging import get_merge
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.distillation import Teachers
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import build_optimizer
from pipelines.shards.streams import shard, share
from tests.keras_vitbert.training.replicas_script import (
    ADAMW,
    CLIP_NORM,
    GLOBAL_BATCH,
    MODEL,
    STEPS,
    Schedule,
    make_examples,
)
from tpu.strategy import get_strategy

if keras.backend.backend() == "jax":
    import jax

    from tpu import jax_strategy

# What a case leaves out: `merge` and `optimizer` are sections of a config, `trainer` holds further
# arguments of `JointTrainer`.
CASE = {
    "merge": {"name": "mask"},
    "optimizer": {},
    "trainer": {},
    "steps_per_execution": 1,
    "sharding": "replicated",
}


def networks():
    """The student, and the network of both teachers."""
    return build_network(MODEL), build_network(MODEL)


def train(case, student_weights, teacher_weights):
    """Trains for ten steps.

    Args:
        case: dict, what differs from `CASE`.
        student_weights, teacher_weights: lists of arrays.

    Returns:
        dict of name to array: weights, masks and state at the end, and the logs of each execution.
    """
    case = CASE | case
    divided = case["sharding"] == "fsdp" and keras.backend.backend() == "jax"
    if divided:
        jax_strategy.TILE = 1  # all weights of this model are small
        host, default = jax.devices()[:2]  # the second one as if it were of an accelerator
        jax.config.update("jax_default_device", default)
    strategy = get_strategy(sharding=case["sharding"])
    with strategy.scope():
        student, teacher = networks()
        student.set_weights(student_weights)
        teacher.set_weights(teacher_weights)
        merge = get_merge(merges.Merge(**case["merge"]), seed=7)
        options = {"clip_norm": CLIP_NORM, **case["trainer"]}
        trainer = JointTrainer(student, merge, Teachers(teacher, teacher), 0.5, 2.0, **options)
        settings = PretrainingOptimizer(**{**ADAMW, "momentum": 0.9, **case["optimizer"]})
        optimizer = build_optimizer(settings, STEPS + 1, student.trainable_variables)
        trainer.compile(optimizer, steps_per_execution=case["steps_per_execution"])
    if divided:  # not yet: no device of an accelerator has ever held all weights
        made = [*trainer.variables, *optimizer.variables, *trainer.frozen_variables]
        assert all(variable.value.devices() == {host} for variable in made)

    def examples(context):
        every = tf.data.Dataset.from_tensor_slices(make_examples()).shard(*shard(context))
        return every.batch(share(GLOBAL_BATCH, context), drop_remainder=True)

    schedule = Schedule()
    options = {"callbacks": [schedule], "shuffle": False, "verbose": 0}
    batches = strategy.distribute_datasets_from_function(examples)
    trainer.fit(batches, steps_per_epoch=STEPS, **options)
    assert trainer.step == STEPS
    if divided:
        for variable in [*student.trainable_variables, *optimizer.variables]:
            assert variable.value.is_fully_replicated == (len(variable.shape) < 2), variable.path
    states = {
        "weights": student.trainable_variables,
        "masks": merge.mask.masks,
        "state": [*optimizer.variables, *trainer.anomaly_guard.variables],
        "conflict": [trainer.conflict.numbers],
    }
    # Keras numbers optimisers, in the first part of their variables' paths.
    found = {
        f"{name}/{number:03}/{variable.path.partition('/')[2]}": keras.ops.convert_to_numpy(
            variable.value
        )
        for name, variables in states.items()
        for number, variable in enumerate(variables)
    }
    batches = strategy.distribute_datasets_from_function(examples)
    evaluated = trainer.evaluate(batches, steps=2, return_dict=True, verbose=0)
    found |= {f"evaluated/{name}": value for name, value in evaluated.items()}
    logs = schedule.logs
    return found | {f"logs/{name}": [one[name] for one in logs] for name in logs[0]}


def main(folder):
    """Trains the case of `FOLDER/case.json`; what the first process finds is `FOLDER/found.npz`."""
    keras.utils.set_random_seed(0)  # of generators that nothing draws from
    case = json.loads((folder / "case.json").read_text())
    given = [list(np.load(folder / f"{name}.npz").values()) for name in ("student", "teacher")]
    found = train(case, *given)
    if jax.process_index() == 0:
        np.savez(folder / "found.npz", **found)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))

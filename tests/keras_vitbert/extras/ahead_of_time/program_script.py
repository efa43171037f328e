"""A joint step as eight replicas of a TPU would run it, on eight CPU devices; see its test.

python -m tests.keras_vitbert.extras.ahead_of_time.program_script trace FOLDER
    by TensorFlow: the program, its arguments, and what one large batch comes to
python -m tests.keras_vitbert.extras.ahead_of_time.program_script run FOLDER
    by JAX: what the program computes
"""

import json
import os
import pathlib
import sys

import numpy as np

REPLICAS = 8
CLEAR = 150
CLIP_NORM = 0.5


def trace(folder):
    import keras
    import tensorflow as tf

    from keras_vitbert.configs.optimizers import PretrainingOptimizer
    from keras_vitbert.extras.ahead_of_time.tracing import stablehlo, tracing_strategy
    from keras_vitbert.merging import GradientMask, Merge, Unit
    from keras_vitbert.model.pretraining_network import build_network
    from keras_vitbert.training.distillation import Teachers
    from keras_vitbert.training.joint_trainer import JointTrainer
    from keras_vitbert.training.optimizers import build_optimizer
    from tests.keras_vitbert.training.replicas_script import (
        ADAMW,
        GLOBAL_BATCH,
        MODEL,
        make_examples,
    )

    # A gradient near 0 moves AdamW's update by up to learning_rate / epsilon times its rounding:
    # with an epsilon of 1e-6, 1e-9 would become 1e-5.
    optimizer = ADAMW | {"epsilon": 1e-4}

    def make_trainer(strategy):
        with strategy.scope():
            keras.utils.set_random_seed(0)
            network, teacher = build_network(MODEL), build_network(MODEL)
            teachers = Teachers(teacher, teacher)
            trainer = JointTrainer(
                network, Merge(Unit(), GradientMask()), teachers, 0.5, 2.0, clip_norm=CLIP_NORM
            )
            trainer.compile(
                build_optimizer(PretrainingOptimizer(**optimizer), 10, network.trainable_variables)
            )
        trainer.optimizer.iterations.assign(3)  # the learning rate is not 0 there
        trainer.clear_counts.assign([CLEAR])
        return trainer

    def variables(trainer):
        """Everything that a step reads or writes, by name."""
        state = {
            **trainer.state_variables,
            "optimizer": trainer.optimizer.variables,
            "teacher": trainer.teachers.image.variables,
            "probe": [*trainer.conflict.variables, trainer.clear_counts],
        }
        return {
            f"{group} {place}": variable.value
            for group, members in state.items()
            for place, variable in enumerate(members)
        }

    assert GLOBAL_BATCH == REPLICAS
    batch = {name: values[:REPLICAS] for name, values in make_examples().items()}
    strategy = tracing_strategy(REPLICAS)
    trainer = make_trainer(strategy)
    spec = {name: tf.TensorSpec((1, *x.shape[1:]), x.dtype) for name, x in batch.items()}
    step = lambda batch: trainer.train_step(batch, probing=True)  # noqa: E731
    program, handles = stablehlo(strategy, step, (spec,))
    (folder / "program.mlir").write_bytes(program)

    by_handle = {}
    for name, variable in variables(trainer).items():
        for copy in getattr(variable, "values", [variable]):
            by_handle[id(copy.handle)] = name, copy
    used = [by_handle[id(handle)] for handle in handles]
    (folder / "variables.json").write_text(json.dumps([name for name, _ in used]))
    arguments = [batch[name] for name in sorted(batch)]
    np.savez(folder / "batch.npz", *arguments)
    np.savez(folder / "before.npz", *[variable.numpy() for _, variable in used])

    single = make_trainer(tf.distribute.get_strategy())
    single.dropout.generator = trainer.dropout.generator
    logs = tf.function(lambda batch: single.train_step(batch, probing=True))(
        {name: tf.constant(x) for name, x in batch.items()}
    )
    after = {name: variable.numpy() for name, variable in variables(single).items()}
    np.savez(folder / "expected.npz", **after, gradient_norm=logs["gradient_norm"].numpy())


def run(folder):
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={REPLICAS}"
    import jax
    from jax._src import compiler
    from jax._src.lib import xla_client

    from keras_vitbert.extras.ahead_of_time.compiler import parse

    jax.config.update("jax_enable_x64", True)  # the optimiser counts in 64 bits
    devices = jax.devices()
    module = parse((folder / "program.mlir").read_bytes())
    options = compiler.get_compile_options(
        num_replicas=REPLICAS,
        num_partitions=1,
        device_assignment=np.arange(REPLICAS)[:, np.newaxis],
    )
    with module.context:
        aliases = {
            int(alias["alias"]["parameter_number"]): int(list(alias["output_index"])[0])
            for alias in module.operation.attributes["mhlo.input_output_alias"]
        }
        executable = compiler.backend_compile_and_load(
            devices[0].client, module, xla_client.DeviceList(tuple(devices)), options, []
        )
    batch, before = np.load(folder / "batch.npz"), np.load(folder / "before.npz")

    mesh = jax.sharding.Mesh(np.array(devices), ["replica"])

    def placed(value, *axes):
        return jax.device_put(value, jax.NamedSharding(mesh, jax.P(*axes)))

    arguments = [placed(batch[name], "replica") for name in batch.files]
    arguments += [placed(before[name]) for name in before.files]
    results = executable.execute_sharded(arguments).disassemble_into_single_device_arrays()
    names = json.loads((folder / "variables.json").read_text())
    after = {
        names[parameter - len(batch.files)]: np.stack([np.asarray(x) for x in results[output]])
        for parameter, output in aliases.items()
    }
    np.savez(folder / "found.npz", **after)


if __name__ == "__main__":
    {"trace": trace, "run": run}[sys.argv[1]](pathlib.Path(sys.argv[2]))

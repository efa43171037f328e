"""Lowers JAX's programs for a TPU, on a machine without one.

A JAX program covers the whole batch and all devices. It is traced and lowered for as many devices
of this machine's CPU. The TPU's compiler divides it among the TPU's devices.
"""

import os
from collections.abc import Iterable
from typing import Any

import jax
from jax._src.interpreters import mlir

from keras_vitbert.extras.ahead_of_time.compiler import ENVIRONMENT
from keras_vitbert.extras.ahead_of_time.programs import Programs, StepProgram
from tpu.jax_strategy import JaxStrategy
from tpu.slices import Slice


def lowering_strategy(slice_: Slice, sharding: str) -> JaxStrategy:
    """A strategy for building and lowering a model, not for running it.

    Call it before JAX has looked for devices.
    """
    os.environ.update(ENVIRONMENT)
    if jax.config.jax_num_cpu_devices != slice_.replicas:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_num_cpu_devices", slice_.replicas)  # raises if that is too late
    jax.config.update("jax_platforms", "cpu")
    return JaxStrategy(jax.devices(), sharding)


def stablehlo(strategy: JaxStrategy, programs: Programs, program: StepProgram) -> bytes:
    """Lowers one of the programs to a serialised StableHLO module."""

    def of_variables(variables: Iterable[Any]) -> list[jax.ShapeDtypeStruct]:
        return [
            jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=strategy.sharding_of(v.shape))
            for v in variables
        ]

    batch = {
        name: jax.ShapeDtypeStruct(
            (spec.shape[0] * strategy.num_replicas_in_sync, *spec.shape[1:]),
            spec.dtype.as_numpy_dtype,
            sharding=strategy.divided,
        )
        for name, spec in program.batch.items()
    }
    if program.model is not None:
        run = strategy.program(program.step, program.model)
        arguments = (of_variables(program.model.weights),)
    else:
        run, state, frozen = programs.trainer.program(program.step)
        arguments = of_variables(state), of_variables(frozen)
    traced = run.trace(*arguments, batch)
    lowered = traced.lower(lowering_platforms=("tpu",))
    return mlir.module_to_bytecode(lowered.compiler_ir("stablehlo"))

"""What configs leave to the devices: the dtype, the steps of an execution, and XLA."""

import math

from pipelines.images.layer_notation import not_for_xla

JIT_COMPILE = ("auto", "on", "off")
SHARDINGS = ("replicated", "fsdp")
_BFLOAT16 = (8, 0)  # the compute capability of the first GPUs that multiply in it
_ON_TPU, _ON_GPU = 100, 10  # most steps of an execution


def dtype_for_devices(dtype, on_tpu, gpus=()):
    """The dtype policy: `auto` is `mixed_bfloat16` on devices that multiply in it, else `float32`.

    Args:
        dtype: str, of `keras_vitbert.configs.checks.DTYPES`.
        on_tpu: bool.
        gpus: sequence of (int, int), the compute capability of each GPU; empty without GPUs.
    """
    has_bfloat16 = on_tpu or (gpus and min(gpus) >= _BFLOAT16)
    return ("mixed_bfloat16" if has_bfloat16 else "float32") if dtype == "auto" else dtype


def most_steps_an_execution(on_tpu, gpus=()):
    """The most steps of an execution where the config leaves that to the devices: int.

    Args:
        on_tpu, gpus: see `dtype_for_devices`.
    """
    # A CPU gains nothing, and executions of one step are the quickest to stop.
    return _ON_TPU if on_tpu else _ON_GPU if gpus else 1


def largest_execution(most, ends):
    """The largest number of steps that divides others.

    Args:
        most: int, the largest value allowed.
        ends: sequence of int, the steps at which an execution must end; zeros are ignored.
    """
    common = math.gcd(*ends)
    return max(n for n in range(1, most + 1) if common % n == 0)


def jit_for_devices(jit_compile, on_tpu, gpus=(), shared=False, unfit="", on_jax=False):
    """Whether XLA is to compile the training step.

    With TensorFlow, `auto` compiles on a single GPU alone: XLA is slower on CPUs, and a TPU's
    strategy compiles anyway. JAX always compiles.

    Args:
        jit_compile: str, of `JIT_COMPILE`.
        on_tpu, gpus: see `dtype_for_devices`.
        shared: bool, whether a strategy shares batches among replicas.
        unfit: str, what in the step XLA cannot compile; empty if there is nothing.
        on_jax: bool.

    Returns:
        str, `on` or `off`; for TPUs always `off` on TensorFlow.

    Raises:
        ValueError: it is `on` and cannot be, or `off` and JAX compiles it.
    """
    if on_jax and jit_compile == "off":
        raise ValueError("--config.jit_compile=off: JAX compiles every step; leave it out")
    if on_jax:
        return "on"
    if on_tpu or jit_compile == "off":
        return "off"
    if shared:
        unfit = "TensorFlow cannot compile a step that several devices share"
    if jit_compile == "on" and unfit:
        raise ValueError(f"--config.jit_compile=on: {unfit}; leave it out")
    return "on" if (jit_compile == "on" or len(gpus) == 1) and not unfit else "off"


def check_sharding(sharding, on_jax):
    """Refuses to shard weights across devices where TensorFlow trains.

    Args:
        sharding: str, of `SHARDINGS`.
        on_jax: bool.

    Raises:
        ValueError: they are to be sharded.
    """
    if sharding != "replicated" and not on_jax:
        raise ValueError(
            f"--config.sharding={sharding}: with TensorFlow every device has all weights; give "
            "--backend=jax, or leave it out"
        )


def unfit_layers(texts, key):
    """Says which image layers XLA cannot compile: str, empty if it can compile all of them.

    Args:
        texts: sequence of str, valid layers, see `pipelines.images.layer_notation`.
        key: str, of the config.
    """
    names = ", ".join(not_for_xla(texts))
    return names and f"XLA cannot compile {names} (--config.{key})"

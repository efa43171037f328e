"""What is known about the devices of a run, on either backend."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from tpu.slices import SLICES

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

    from tpu.jax_strategy import JaxStrategy

    Strategy = tf.distribute.Strategy | JaxStrategy
    Index = tuple[slice, ...]  # of a slice in the whole

# Peak operations a second for dense products, as the makers state them. For float32 on GPUs that
# is TF32, which TensorFlow uses unless it is turned off; TPUs make such products in bfloat16, too.
# Part of a GPU's name: TFLOP/s in bfloat16, in TF32, and in plain float32. If a name has several
# of the parts, the first one counts.
_GPUS = {
    "H200": (989, 494, 67),
    "H100 PCIe": (756, 378, 51),
    "H100 NVL": (835, 417, 60),
    "H100": (989, 494, 67),
    "H800": (989, 494, 67),
    "A100": (312, 156, 19.5),
    "A800": (312, 156, 19.5),
    "A30": (165, 82, 10.3),
    "A40": (150, 75, 37.4),
    "L40S": (362, 183, 91.6),
    "L4": (121, 60, 30.3),
    "RTX 4090": (165, 82.6, 82.6),
    "RTX 3090": (71, 35.6, 35.6),
    "V100": (None, None, 15.7),
    "T4": (None, None, 8.1),
}


def device_type(strategy: Strategy) -> str:
    """What holds the weights under a strategy: `tpu`, `gpu` or `host`."""
    import tensorflow as tf

    if not isinstance(strategy, tf.distribute.Strategy):
        platform = strategy.devices[0].platform
        return "host" if platform == "cpu" else platform
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return "tpu"
    return "gpu" if tf.config.list_logical_devices("GPU") else "host"


def is_shared(strategy: Strategy) -> bool:
    """Whether a strategy shares batches among replicas.

    With TensorFlow, any strategy but the default one does, even with a single replica; with JAX, it
    takes several.
    """
    import tensorflow as tf

    if _on_jax():
        return strategy.num_replicas_in_sync > 1
    return strategy is not tf.distribute.get_strategy()


def gpus() -> list[tuple[str, tuple[int, int]]]:
    """The name and the compute capability of each GPU of this machine.

    They are empty and (0, 0) where they are not known, as for GPUs that are not NVIDIA's.
    """
    if _on_jax():
        import jax

        devices = [device for device in jax.local_devices() if device.platform == "gpu"]
        versions = [str(getattr(device, "compute_capability", "0.0")) for device in devices]
        numbers = [(int(major), int(minor)) for major, minor in (v.split(".") for v in versions)]
        return list(zip((device.device_kind for device in devices), numbers, strict=True))
    import tensorflow as tf

    names = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in names]
    return [(d.get("device_name", ""), d.get("compute_capability", (0, 0))) for d in details]


def peak_flops(strategy: Strategy, dtype: str, tpu: str | None = None) -> float | None:
    """The peak operations a second of all devices of a strategy together, in a dtype policy.

    None where it is not known, as for any CPU. `tpu` is that of `tpu.strategy.get_strategy`.
    """
    replicas = strategy.num_replicas_in_sync
    if tpu is not None:
        return SLICES[tpu].peak_flops * replicas if tpu in SLICES else None
    names = {name for name, _ in gpus()}
    if not names:
        return None
    import tensorflow as tf

    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    peaks = {gpu_peak(name, dtype, tf32) for name in names}
    peak = peaks.pop() if len(peaks) == 1 else None
    return peak and peak * replicas


def gpu_peak(name: str, dtype: str, tf32: bool = True) -> float | None:
    """The peak operations a second of one GPU, such as `NVIDIA A100-SXM4-40GB`, in a dtype policy.

    None if it is not known. Products of float32 may be made in TF32.
    """
    words = f" {name.replace('-', ' ')} "
    known = (peaks for model, peaks in _GPUS.items() if f" {model} " in words)
    bfloat16, in_tf32, float32 = next(known, (None, None, None))
    peak = bfloat16 if dtype != "float32" else (tf32 and in_tf32) or float32
    return peak and peak * 1e12


def new_weights(strategy: Strategy) -> AbstractContextManager[Any]:
    """A strategy's scope in which weights that it divides are made divided."""
    import tensorflow as tf

    is_tensorflow = isinstance(strategy, tf.distribute.Strategy)
    return strategy.scope() if is_tensorflow else strategy.scope(divided=True)


def host_values(variable: Any) -> np.ndarray:
    """The value of a Keras variable, on this host, which the next step does not change.

    If it is divided, the replicas' parts are summed.
    """
    if _on_jax():
        import numpy as np
        from jax.experimental import multihost_utils

        value = variable.value
        if not value.is_fully_addressable and not value.is_fully_replicated:
            return multihost_utils.process_allgather(value, tiled=True)
        return np.array(value)
    import tensorflow as tf

    # Not `Variable.numpy`, which metrics of several replicas do not have. On a CPU nothing is
    # copied here: the next step copies what it changes.
    return tf.convert_to_tensor(variable.value).numpy()


def is_sharded(variable: Any) -> bool:
    """Whether each device has a slice of a Keras variable, see `JaxStrategy`."""
    return _on_jax() and not variable.value.is_fully_replicated


def host_slices(variable: Any) -> list[tuple[Index, tf.Tensor]]:
    """This process' slices of a sharded variable, which the next step does not change."""
    import jax
    import tensorflow as tf

    shards, host = variable.value.addressable_shards, jax.local_devices(backend="cpu")[0]
    copies = [jax.device_put(shard.data, host, may_alias=False) for shard in shards]
    # TensorFlow would copy NumPy's arrays once more.
    from_jax = tf.experimental.dlpack.from_dlpack
    return [
        (shard.index, from_jax(jax.block_until_ready(copy).__dlpack__()))
        for shard, copy in zip(shards, copies, strict=True)
    ]


def assign_slices(variable: Any, read: Callable[[Any], np.ndarray]) -> None:
    """Assigns this process' slices of a sharded variable, which a function of an `Index` reads."""
    import jax

    value = variable.value
    variable.assign(jax.make_array_from_callback(value.shape, value.sharding, read))


def enable_determinism() -> None:
    """Makes the backend use operations that give the same bits each time, or refuse.

    Call it after `get_strategy`, and before anything is built. On GPUs, JAX needs a setting from
    before it started.
    """
    import tensorflow as tf

    if _on_jax():
        setting = "--xla_gpu_deterministic_ops=true"
        if gpus() and setting not in os.environ.get("XLA_FLAGS", ""):
            raise ValueError(f"determinism: with JAX on GPUs set XLA_FLAGS={setting}")
        return
    tf.config.experimental.enable_op_determinism()
    # Layers of KerasCV ask for the global generator when they are built, and must not make one
    # without a seed. What they draw is keyed by the example; see
    # `keras_vitbert.training.image_layers`.
    tf.random.set_global_generator(tf.random.Generator.from_seed(0))


def _on_jax() -> bool:
    import keras

    return keras.backend.backend() == "jax"

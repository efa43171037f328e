"""What is known about the devices of a run, on either backend."""

import os
from typing import Any


def holder_of_weights(strategy: Any) -> str:
    """What holds the weights under a strategy: `tpu`, `gpu` or `host`."""
    import tensorflow as tf

    if _on_jax():
        platform = strategy.devices[0].platform
        return "host" if platform == "cpu" else platform
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return "tpu"
    return "gpu" if tf.config.list_logical_devices("GPU") else "host"


def is_shared(strategy: Any) -> bool:
    """Whether a strategy shares batches among replicas.

    With TensorFlow, any strategy but the default one does, even with a single replica; with JAX, it
    takes several.
    """
    import tensorflow as tf

    if _on_jax():
        return strategy.num_replicas_in_sync > 1
    return strategy is not tf.distribute.get_strategy()


def gpu_capabilities() -> tuple[tuple[int, int], ...]:
    """The compute capability of each GPU of this machine.

    It is (0, 0) where it is not known, as for GPUs that are not NVIDIA's.
    """
    return tuple(capability for _, capability in _gpus())


def gpu_names() -> tuple[str, ...]:
    """The name of each GPU of this machine, empty where it is not known."""
    return tuple(name for name, _ in _gpus())


def _gpus():
    if _on_jax():
        from tpu.jax_strategy import gpus

        return gpus()
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in found]
    return [(d.get("device_name", ""), d.get("compute_capability", (0, 0))) for d in details]


def host_values(variable: Any) -> Any:
    """The value of a Keras variable, on this host, which the next step does not change.

    If it is divided, the replicas' parts are summed.
    """
    if _on_jax():
        from tpu.jax_strategy import values_of

        return values_of(variable)
    import tensorflow as tf

    # Not `Variable.numpy`, which metrics of several replicas do not have. On a CPU nothing is
    # copied here: the next step copies what it changes.
    return tf.convert_to_tensor(variable.value).numpy()


def enable_determinism() -> None:
    """Makes the backend use operations that give the same bits each time, or refuse.

    Call it after `get_strategy`, and before anything is built.

    Raises:
        ValueError: on GPUs, JAX needs a setting from before it started, which is missing.
    """
    import tensorflow as tf

    if _on_jax():
        setting = "--xla_gpu_deterministic_ops=true"
        if _gpus() and setting not in os.environ.get("XLA_FLAGS", ""):
            raise ValueError(f"determinism: with JAX on GPUs set XLA_FLAGS={setting}")
        return
    tf.config.experimental.enable_op_determinism()
    # Layers of KerasCV ask for the global generator when they are built, and must not make one
    # without a seed. What they draw is keyed by the example; see
    # `keras_vitbert.training.image_layers`.
    tf.random.set_global_generator(tf.random.Generator.from_seed(0))


def _on_jax():
    import keras

    return keras.backend.backend() == "jax"

"""The devices of a run: from the name of a TPU, or none, to a strategy.

| `tpu` | trains on |
| --- | --- |
| None | the machines of `TF_CONFIG` if it is set, else all GPUs, else the CPU |
| an accelerator type, `v3-128` | the TPU at `tpu_address`, or the one this machine belongs to |
| `grpc://HOST:8470`, or several | the TPU whose hosts these are |
| `local` | the chips in this machine |
| a TPU's name | what `tf.distribute.cluster_resolver.TPUClusterResolver` finds under it |

With `KERAS_BACKEND=jax` the devices are JAX's, and every host of a TPU runs the same command; see
`tpu.jax_strategy`. What is known about the devices of either backend is in `tpu.devices`.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from pipelines.command_line import one_line
from tpu import addresses, rendezvous
from tpu.slices import Slice, slice_of

if TYPE_CHECKING:
    import tensorflow as tf

    from tpu.jax_strategy import JaxStrategy

_CLUSTER = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'


def wait_for_peers(seconds: float) -> None:
    """Waits until all machines of `TF_CONFIG` have started, if it is set; see `tpu.rendezvous`.

    Call it before `get_strategy`, which would wait silently.
    """
    if config := _read_tf_config():
        rendezvous.wait_for_peers(config["cluster"], config["task"], seconds)


def get_strategy(
    tpu: str | None = None, tpu_address: str = "", sharding: str = "replicated"
) -> tf.distribute.Strategy | JaxStrategy:
    """The strategy of the devices that are asked for, on the backend that `KERAS_BACKEND` names.

    Call it before anything else uses the devices: `TF_CONFIG` and TPUs require that.

    Args:
        tpu: which TPU, see the table above.
        tpu_address: `grpc://HOST:8470` of all hosts of a TPU that is named by its type.
        sharding: one of `keras_vitbert.configs.devices.SHARDINGS`; TensorFlow replicates.

    Raises:
        ValueError: `TF_CONFIG` is wrong, or there is no such TPU.
    """
    slice_ = slice_of(tpu) if tpu else None
    if os.environ.get("KERAS_BACKEND") == "jax":
        if tpu_address or slice_ is None and tpu not in (None, "local"):
            raise ValueError(
                f"tpu {tpu_address or tpu!r}: with JAX every host of a TPU runs the same command; "
                "give an accelerator type, or local"
            )
        if tpu is not None and not addresses.find_chips():
            raise ValueError(f"tpu {tpu!r}: {addresses.NO_CHIPS}")
        from tpu.jax_strategy import jax_strategy

        return jax_strategy(tpu, slice_, _read_tf_config() if tpu is None else None, sharding)
    if tpu is not None or tpu_address:
        return _tpu_strategy(tpu, addresses.find_tpu(tpu, slice_, tpu_address), slice_)
    if _read_tf_config():
        return _workers_strategy()
    import tensorflow as tf

    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def _tpu_strategy(tpu: str | None, address: str, slice_: Slice | None) -> tf.distribute.TPUStrategy:
    """The strategy of the TPU at an address that `find_tpu` has returned."""
    import tensorflow as tf

    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(address)
        if address != "local":
            addresses.check_servers(resolver.cluster_spec().as_dict()["worker"])
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    except (tf.errors.OpError, RuntimeError, ValueError, OSError) as error:
        raise ValueError(
            f"tpu {tpu!r}: TensorFlow {tf.__version__} found no TPU at {address} "
            f"({one_line(error)[:300]}); TPUs need the package tensorflow-tpu in place of "
            "tensorflow: tensorflow-tpu==2.20.0 libtpu==0.0.21"
        ) from error
    if slice_ and strategy.num_replicas_in_sync != slice_.replicas:
        raise ValueError(
            f"tpu {tpu!r}: a {slice_.accelerator_type} has {slice_.replicas} replicas, but "
            f"TensorFlow found {strategy.num_replicas_in_sync} at {address}"
        )
    return strategy


def _workers_strategy() -> tf.distribute.Strategy:
    """Joins the other machines of `TF_CONFIG`."""
    import tensorflow as tf

    # Physical: listing logical devices would initialise them, which is too early here.
    gpus = tf.config.list_physical_devices("GPU")
    ways = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=ways.AUTO if gpus else ways.RING
    )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except tf.errors.OpError as error:
        raise ValueError(
            "TF_CONFIG: this machine cannot join the workers "
            f"({one_line(error)[:200]}); is its port in use, by another run?"
        ) from error


def _read_tf_config() -> dict[str, Any] | None:
    """The content of `TF_CONFIG`, with which machines neither fail nor wait; None without it."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        everyone = [host for hosts in cluster.values() for host in hosts]
        for host in everyone:
            addresses.check_address(host)
        if (
            not set(cluster) <= {"chief", "worker"}
            or int(task["index"]) not in range(len(cluster[task["type"]]))
            or len(set(everyone)) < len(everyone)
        ):
            raise ValueError("a wrong job, an index out of range, or an address given twice")
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(
            f"TF_CONFIG: {one_line(error)[:100]}; give {_CLUSTER}, with the index of this machine"
        ) from error
    return config

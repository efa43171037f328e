"""The devices of a run: from the name of a TPU, or none, to a strategy.

| `tpu` | trains on |
| --- | --- |
| None | the machines of `TF_CONFIG` if it is set, else all GPUs, else the CPU |
| an accelerator type, `v3-128` | the TPU at `tpu_address`, or the one this machine belongs to |
| `grpc://HOST:8470`, or several | the TPU whose hosts these are |
| `local` | the chips in this machine |
| a TPU's name | the TPU of this name in this machine's project and zone of Google Cloud |

With `KERAS_BACKEND=jax` the devices are JAX's, and every host of a TPU runs the same command; see
`tpu.jax_strategy`. What is known about the devices of either backend is in `tpu.devices`.
"""

import glob
import importlib.util
import json
import os
from typing import Any

from pipelines.command_line import install
from tpu import addresses, peers
from tpu.slices import slice_of

NVIDIA = "/dev/nvidia[0-9]*"  # the GPUs of this machine
_CLUSTER = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'


def wait_for_peers(seconds: float) -> None:
    """Waits until all machines of `TF_CONFIG` have started, if it is set; see `tpu.peers`.

    Call it before `get_strategy`, which would wait silently.

    Raises:
        ValueError: `TF_CONFIG` is wrong, or a machine has not started within this time.
    """
    if config := _read_tf_config():
        peers.wait_for_peers(config["cluster"], config["task"], seconds)


def get_strategy(
    tpu: str | None = None, tpu_address: str = "", sharding: str = "replicated"
) -> Any:
    """The strategy of the devices that are asked for, on the backend that `KERAS_BACKEND` names.

    Call it before anything else uses the devices: `TF_CONFIG` and TPUs require that. With several
    hosts, call it before TensorFlow is imported.

    Args:
        tpu: which TPU, see the table above.
        tpu_address: `grpc://HOST:8470` of all hosts of a TPU that is named by its type.
        sharding: one of `keras_vitbert.configs.devices.SHARDINGS`; TensorFlow replicates.

    Returns:
        `tf.distribute.Strategy`, or `tpu.jax_strategy.JaxStrategy`.

    Raises:
        ValueError: `TF_CONFIG` is wrong, or there is no such TPU.
    """
    on_jax = os.environ.get("KERAS_BACKEND") == "jax"
    if on_jax:
        _check_jax(tpu, tpu_address)
    slice_ = slice_of(tpu) if tpu else None
    if on_jax:
        if slice_ is None and tpu not in (None, "local"):
            raise ValueError(f"tpu {tpu!r}: with JAX it must be an accelerator type, or local")
        config = _read_tf_config() if tpu is None else None
        from tpu.jax_strategy import jax_strategy

        return jax_strategy(tpu, slice_, config, sharding)
    if tpu is not None or tpu_address:
        address, slice_ = addresses.find_tpu(tpu, slice_, tpu_address)
        if address != "local":
            # Chips in this machine belong to its server; TensorFlow must not open them here.
            os.environ.setdefault("TPU_LOAD_LIBRARY", "0")
        from tpu.tensorflow_strategy import tpu_strategy

        return tpu_strategy(tpu, address, slice_)
    config = _read_tf_config()
    from tpu.tensorflow_strategy import local_strategy, workers_strategy

    return workers_strategy() if config else local_strategy()


def _check_jax(tpu, tpu_address):
    """Refuses what JAX cannot do here, before it is loaded."""
    if tpu_address:
        raise ValueError(
            f"tpu_address {tpu_address!r}: with JAX every host of a TPU runs the same command; "
            "leave it out"
        )
    if tpu is not None and not addresses.find_chips():
        no_chips = addresses.NO_CHIPS
        raise ValueError(f"tpu {tpu!r}: {no_chips}; with JAX every host of a TPU runs this command")
    if importlib.util.find_spec("jax") is None:
        extra = "jax-tpu" if tpu is not None else "jax-cuda" if glob.glob(NVIDIA) else "jax"
        raise ValueError(f"JAX is not installed; run: {install(extra)}")


def _read_tf_config() -> dict | None:
    """The content of `TF_CONFIG`, with which machines neither fail nor wait; None without it.

    Raises:
        ValueError: it does not have the form of `_CLUSTER`, or an address is malformed.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        everyone = [host for hosts in cluster.values() for host in hosts]
        problem = next(filter(None, map(addresses.address_problem, everyone)), "")
        is_sound = (
            set(cluster) <= {"chief", "worker"}
            and int(task["index"]) in range(len(cluster[task["type"]]))
            and len(set(everyone)) == len(everyone)
        )
    except (ValueError, TypeError, LookupError, AttributeError):
        problem, is_sound = "", False
    if problem or not is_sound:
        raise ValueError(
            f"TF_CONFIG: {problem or 'malformed'}; give {_CLUSTER}, with the index of this machine"
        )
    return config

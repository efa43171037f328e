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
import re

from pipelines.command_line import install, one_line
from tpu import addresses, peers
from tpu.slices import Slice, find_slice, is_accelerator_type

NO_CHIPS = f"no TPU chips in this machine ({', '.join(addresses.CHIPS)})"
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


def get_strategy(tpu: str | None = None, tpu_address: str = "", sharding: str = "replicated"):
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
    if os.environ.get("KERAS_BACKEND") == "jax":
        return _jax_strategy(tpu, tpu_address, sharding)
    if tpu is not None or tpu_address:
        return _tpu_strategy(tpu, *find_tpu(tpu, tpu_address))
    config = _read_tf_config()
    import tensorflow as tf

    if config:
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
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def _jax_strategy(tpu, tpu_address, sharding):
    """The strategy of JAX; what is asked for is checked before JAX is loaded."""
    if tpu_address:
        raise ValueError(
            f"tpu_address {tpu_address!r}: with JAX every host of a TPU runs the same command; "
            "leave it out"
        )
    slice_ = find_slice(tpu) if tpu not in (None, "local") else None
    if tpu is not None and not addresses.find_chips():
        raise ValueError(f"tpu {tpu!r}: {NO_CHIPS}; with JAX every host of a TPU runs this command")
    config = _read_tf_config() if tpu is None else None
    if importlib.util.find_spec("jax") is None:
        extra = "jax-tpu" if tpu is not None else "jax-cuda" if glob.glob(NVIDIA) else "jax"
        raise ValueError(f"JAX is not installed; run: {install(extra)}")
    from tpu.jax_strategy import jax_strategy

    return jax_strategy(tpu, slice_, config, sharding)


def find_tpu(tpu: str | None, tpu_address: str = "") -> tuple[str, Slice | None]:
    """Finds a TPU without TensorFlow, within seconds; see `get_strategy`.

    Returns:
        Its address, `local` or `grpc://...`, and its slice, None if its type is unknown.

    Raises:
        ValueError: there is no such TPU.
    """
    if tpu and is_accelerator_type(tpu):
        return _find_accelerator(find_slice(tpu), tpu_address)
    if tpu_address:
        raise ValueError(f"tpu_address {tpu_address!r}: needs the TPU's accelerator type (v3-128)")
    if tpu == "local":
        return _local_chips()
    if tpu.startswith("grpc://"):
        return _servers(tpu)
    return _find_name(tpu)


def _servers(text, slice_=None):
    """The result of `find_tpu` for the addresses of servers, which must answer."""
    hosts = [part.removeprefix("grpc://") for part in text.split(",")]
    for host in hosts:
        if problem := addresses.address_problem(host):
            raise ValueError(f"TPU address {text!r}: {problem}; give grpc://HOST:8470")
    addresses.check_servers(hosts)
    if slice_ and len(hosts) != slice_.hosts:
        raise ValueError(
            f"tpu {slice_.accelerator_type!r}: has {slice_.hosts} hosts, but there are addresses "
            f"of {len(hosts)}"
        )
    return ",".join(f"grpc://{host}" for host in hosts), slice_


def _find_accelerator(slice_, tpu_address):
    if tpu_address:
        return _servers(tpu_address, slice_)
    tpu = slice_.accelerator_type
    try:
        found, hosts = addresses.find_vm()
        if found != tpu:
            raise ValueError(f"tpu {tpu!r}: this machine belongs to a {found}")
        return ("local", slice_) if slice_.hosts == 1 else _servers(",".join(hosts), slice_)
    except addresses.NotFound as error:
        reason = str(error)
    chips = addresses.find_chips()
    if chips and slice_.hosts == 1:
        return "local", slice_
    # A part of a slice would wait forever for the other parts.
    here = f"{len(chips)} chips of {slice_.chips} in this machine" if chips else NO_CHIPS
    raise ValueError(
        f"tpu {tpu!r}: not found: {reason}; {here}; give its address, or run on the TPU VM"
    )


def _find_name(tpu):
    if not re.fullmatch("[a-z]([-a-z0-9]{0,61}[a-z0-9])?", tpu):
        raise ValueError(
            f"tpu {tpu!r}: must be an accelerator type (v3-128), grpc://HOST:8470, local, or a "
            "TPU's name"
        )
    try:
        accelerator_type, hosts = addresses.find_node(tpu)
    except addresses.NotFound as error:
        raise ValueError(f"tpu {tpu!r}: cannot be looked up by name: {error}") from error
    slice_ = find_slice(accelerator_type)
    if slice_.hosts == 1 and _vm_or_nothing()[1] == hosts:
        return "local", slice_
    return _servers(",".join(hosts), slice_)


def _local_chips():
    if not addresses.find_chips():
        raise ValueError(f"tpu 'local': {NO_CHIPS}")
    accelerator_type, hosts = _vm_or_nothing()
    if len(hosts) > 1:
        raise ValueError(
            f"tpu 'local': this machine is one of the {len(hosts)} hosts of a {accelerator_type}; "
            "give that type"
        )
    return "local", None


def _vm_or_nothing():
    try:
        return addresses.find_vm()
    except addresses.NotFound:
        return None, []


def _tpu_strategy(tpu, address, slice_):
    if address != "local":
        # Chips in this machine belong to its server; TensorFlow must not open them here.
        os.environ.setdefault("TPU_LOAD_LIBRARY", "0")
    import tensorflow as tf

    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(address)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"tpu {tpu!r}: TensorFlow {tf.__version__} found no TPU at {address} "
            f"({one_line(error)[:200]}); TPUs need the package tensorflow-tpu in place of "
            "tensorflow: tensorflow-tpu==2.20.0 libtpu==0.0.21"
        ) from error
    if slice_ and strategy.num_replicas_in_sync != slice_.replicas:
        raise ValueError(
            f"tpu {tpu!r}: a {slice_.accelerator_type} has {slice_.replicas} replicas, but "
            f"TensorFlow found {strategy.num_replicas_in_sync} at {address}"
        )
    return strategy


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

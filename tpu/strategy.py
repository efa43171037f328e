"""The devices of a run: from the flags `--tpu` and `--tpu_address` to a strategy.

| `--tpu` | trains on |
| --- | --- |
| not given | the machines of `TF_CONFIG` if it is set, else all GPUs, else the CPU |
| an accelerator type, `v3-128` | the TPU at `--tpu_address`, or the one this machine belongs to |
| `grpc://HOST:8470`, or several | the TPU whose hosts these are |
| `local` | the chips in this machine |
| a TPU's name | the TPU of this name in this machine's project and zone of Google Cloud |

With `--backend=jax` the devices are JAX's, and every host of a TPU runs the same command; see
`tpu.jax_strategy`. What is known about the devices of either backend is in `tpu.devices`.
"""

import glob
import importlib.util
import json
import os
import re

from pipelines import flags
from pipelines.command_line import install, one_line
from tpu import addresses, peers
from tpu.slices import as_flag, find_slice, is_accelerator_type

TAKES = "--tpu takes an accelerator type (v3-128), grpc://HOST:8470, local, or a TPU's name"
NO_CHIPS = f"no TPU chips in this machine ({', '.join(addresses.CHIPS)})"
NVIDIA = "/dev/nvidia[0-9]*"  # the GPUs of this machine
BACKEND = (
    *("backend", None),
    "tensorflow or jax (default: KERAS_BACKEND if it is set, else tensorflow)",
)
CLUSTER = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'


def define_flags(values):
    """Defines `--backend`, `--tpu`, `--tpu_address` and `--wait_seconds`.

    Args:
        values: `absl.flags.FlagValues` to define them in.
    """
    tpu = (
        "a TPU to train on: its accelerator type (v3-128), grpc://HOST:8470 (several "
        "comma-separated), local, or its name (default: GPUs or the CPU; on many machines by "
        "TF_CONFIG)"
    )
    tpu_address = (
        "the address of the TPU: grpc://HOST:8470 of all its hosts, comma-separated (default: on a "
        "TPU VM, that TPU)"
    )
    wait = "how long to wait for the other machines of TF_CONFIG to start"
    flags.define_flags(
        BACKEND,
        ("tpu", None, tpu),
        ("tpu_address", "", tpu_address),
        ("wait_seconds", float(peers.SECONDS), wait, 0.0),
        values=values,
    )


def wait_for_peers(values):
    """Waits until all machines of `TF_CONFIG` have started, if it is set; see `tpu.peers`.

    Call it before `get_strategy`, which would wait silently.

    Args:
        values: parsed `absl.flags.FlagValues` of `define_flags`.

    Raises:
        ValueError: `TF_CONFIG` is wrong, or a machine has not started within `--wait_seconds`.
    """
    if values.tpu is None and not values.tpu_address and os.environ.get("TF_CONFIG"):
        config = check_tf_config(os.environ["TF_CONFIG"])
        peers.wait_for_peers(config["cluster"], config["task"], values.wait_seconds)


def get_strategy(tpu=None, tpu_address="", sharding="replicated"):
    """The strategy that the flags and `KERAS_BACKEND` ask for.

    Call it before anything else uses the devices: `TF_CONFIG` and TPUs require that. With several
    hosts, call it before TensorFlow is imported.

    Args:
        tpu: str, the value of `--tpu`, or None if it is not given.
        tpu_address: str, the value of `--tpu_address`.
        sharding: str, one of `keras_vitbert.configs.devices.SHARDINGS`; TensorFlow replicates.

    Returns:
        `tf.distribute.Strategy`, or `tpu.jax_strategy.JaxStrategy`.

    Raises:
        ValueError: a flag or `TF_CONFIG` is wrong, or there is no such TPU.
    """
    if os.environ.get("KERAS_BACKEND") == "jax":
        return _jax_strategy(tpu, tpu_address, sharding)
    target = check_flags(tpu, tpu_address)
    if target is not None:
        return _tpu_strategy(tpu, *target)
    import tensorflow as tf

    if os.environ.get("TF_CONFIG"):
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
    """The strategy of JAX; the flags are checked before JAX is loaded."""
    slice_ = config = None
    if tpu_address:
        raise ValueError(
            f"{as_flag(tpu_address, 'tpu_address')}: with JAX every host of a TPU runs the same "
            "command; leave it out"
        )
    if tpu is None and os.environ.get("TF_CONFIG"):
        config = check_tf_config(os.environ["TF_CONFIG"])
    if tpu is not None:
        if tpu != "local":
            if not is_accelerator_type(tpu):
                raise ValueError(
                    f"{as_flag(tpu)}: with JAX give the accelerator type (v5litepod-16), or local"
                )
            slice_ = find_slice(tpu)
        if not addresses.find_chips():
            raise ValueError(
                f"{as_flag(tpu)}: {NO_CHIPS}; with JAX every host of the TPU runs this command"
            )
    if importlib.util.find_spec("jax") is None:
        extra = "jax-tpu" if tpu is not None else "jax-cuda" if glob.glob(NVIDIA) else "jax"
        raise ValueError(f"JAX is not installed; run: {install(extra)}")
    from tpu.jax_strategy import jax_strategy

    return jax_strategy(tpu, slice_, config, sharding)


def check_flags(tpu=None, tpu_address=""):
    """Checks the flags without TensorFlow, and finds the TPU that they name.

    It uses the network only if the flags require that, and returns within seconds.

    Args:
        tpu: str, the value of `--tpu`, or None if it is not given.
        tpu_address: str, the value of `--tpu_address`.

    Returns:
        (address, `Slice`) of a TPU. The address is `local` or `grpc://...`; the slice is None if
        its type is unknown. None without `--tpu`.

    Raises:
        ValueError: a flag or `TF_CONFIG` is wrong, or there is no such TPU.
    """
    if tpu is None:
        if tpu_address:
            raise ValueError(
                f"{as_flag(tpu_address, 'tpu_address')}: give --tpu with it, the accelerator type "
                "(v3-128)"
            )
        if os.environ.get("TF_CONFIG"):
            check_tf_config(os.environ["TF_CONFIG"])
        return None
    if not tpu:
        raise ValueError(f"--tpu is empty; {TAKES}; or leave it out")
    if is_accelerator_type(tpu):
        return _find_accelerator(find_slice(tpu), tpu_address)
    if tpu_address:
        raise ValueError(
            f"{as_flag(tpu_address, 'tpu_address')}: goes with an accelerator type (v3-128), not "
            f"with {as_flag(tpu)}; leave it out"
        )
    if tpu == "local":
        return _local_chips()
    if tpu.startswith("grpc://"):
        return _servers(parse_addresses(tpu, as_flag(tpu)))
    return _find_name(tpu)


def parse_addresses(text, flag):
    """Parses the addresses of servers.

    Args:
        text: str, `grpc://host:port,...`, with or without `grpc://`.
        flag: str, the flag that holds them, for messages.

    Returns:
        list of str, `host:port`.

    Raises:
        ValueError: an address is malformed or repeated.
    """
    hosts = [part.removeprefix("grpc://") for part in text.split(",")]
    for number, host in enumerate(hosts):
        problem = addresses.address_problem(host)
        if not host:
            problem = "an address is empty"
        elif host in hosts[:number]:
            problem = f"{host} is given twice"
        if problem:
            raise ValueError(f"{flag}: {problem}; give grpc://HOST:8470, several comma-separated")
    return hosts


def _servers(hosts, slice_=None):
    """The result of `check_flags` for servers that answer."""
    addresses.check_servers(hosts)
    if slice_ and len(hosts) != slice_.hosts:
        raise ValueError(
            f"--tpu={slice_.accelerator_type}: has {slice_.hosts} hosts, but there are addresses "
            f"of {len(hosts)}; give those of all hosts in --tpu_address"
        )
    return ",".join(f"grpc://{host}" for host in hosts), slice_


def _find_accelerator(slice_, tpu_address):
    flag = f"--tpu={slice_.accelerator_type}"
    if tpu_address:
        return _servers(parse_addresses(tpu_address, as_flag(tpu_address, "tpu_address")), slice_)
    outcomes = ["no --tpu_address"]
    try:
        found, hosts = addresses.find_vm()
        if found != slice_.accelerator_type:
            raise ValueError(f"{flag}: this machine belongs to a {found}; give --tpu={found}")
        return ("local", slice_) if slice_.hosts == 1 else _servers(hosts, slice_)
    except addresses.NotFound as error:
        outcomes.append(str(error))
    chips = addresses.find_chips()
    if chips and slice_.hosts == 1:
        return "local", slice_
    # A part of a slice would wait forever for the other parts.
    outcomes.append(f"{len(chips)} chips of {slice_.chips} in this machine" if chips else NO_CHIPS)
    raise ValueError(
        f"{flag}: no such TPU found: {'; '.join(outcomes)}; give --tpu_address=grpc://HOST:8470 or "
        f"run on the TPU VM; `python -m keras_vitbert.aot {flag}` proves the run without hardware"
    )


def _find_name(tpu):
    if not re.fullmatch("[a-z]([-a-z0-9]{0,61}[a-z0-9])?", tpu):
        is_address = not addresses.address_problem(tpu.partition(",")[0])
        hint = f" (did you mean grpc://{tpu}?)" if is_address else ""
        raise ValueError(f"{as_flag(tpu)}: not the name of a TPU{hint}; {TAKES}")
    try:
        accelerator_type, hosts = addresses.find_node(tpu)
    except addresses.NotFound as error:
        raise ValueError(f"--tpu={tpu}: cannot be looked up by name: {error}; {TAKES}") from error
    try:
        slice_ = find_slice(accelerator_type)
    except ValueError as error:
        raise ValueError(f"--tpu={tpu}: it is of an unknown type: {error}") from error
    if slice_.hosts == 1 and _vm_or_nothing()[1] == hosts:
        return "local", slice_
    return _servers(hosts, slice_)


def _local_chips():
    if not addresses.find_chips():
        raise ValueError(f"--tpu=local: {NO_CHIPS}; run on a TPU VM, or give grpc://HOST:8470")
    accelerator_type, hosts = _vm_or_nothing()
    if len(hosts) > 1:
        raise ValueError(
            f"--tpu=local: this machine is one of the {len(hosts)} hosts of a {accelerator_type}; "
            f"give --tpu={accelerator_type}"
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
            f"{as_flag(tpu)}: TensorFlow {tf.__version__} found no TPU at {address} "
            f"({one_line(error)[:200]}); TPUs need the package tensorflow-tpu in place of "
            "tensorflow: tensorflow-tpu==2.20.0 libtpu==0.0.21"
        ) from error
    if slice_ and strategy.num_replicas_in_sync != slice_.replicas:
        raise ValueError(
            f"{as_flag(tpu)}: a {slice_.accelerator_type} has {slice_.replicas} replicas, but "
            f"TensorFlow found {strategy.num_replicas_in_sync} at {address}; give the type it has"
        )
    return strategy


def check_tf_config(text):
    """Refuses a `TF_CONFIG` with which `MultiWorkerMirroredStrategy` would fail or wait.

    Args:
        text: str.

    Returns:
        dict, its content.

    Raises:
        ValueError: names what is wrong.
    """

    def require(condition, problem):
        if not condition:
            raise ValueError(f"TF_CONFIG: {problem}; unset it, or give {CLUSTER}")

    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"TF_CONFIG: not JSON ({error}); unset it, or give {CLUSTER}") from error
    require(isinstance(config, dict), "not an object of JSON")
    cluster, task = config.get("cluster"), config.get("task")
    require(isinstance(cluster, dict) and cluster, "it has no cluster")
    require(set(cluster) <= {"chief", "worker"}, f"its jobs {list(cluster)} are not all workers")
    for job, hosts in cluster.items():
        require(isinstance(hosts, list) and hosts, f"cluster.{job} is not a list of host:port")
        for host in hosts:
            problem = addresses.address_problem(str(host))
            require(not problem, f"cluster.{job}: {problem}")
    everyone = [host for hosts in cluster.values() for host in hosts]
    require(len(set(everyone)) == len(everyone), "an address occurs twice in the cluster")
    require(len(cluster.get("chief", [])) <= 1, "the cluster has several chiefs")
    require(isinstance(task, dict), "it has no task")
    job, index = task.get("type"), task.get("index")
    known = isinstance(job, str) and job in cluster
    require(known, f"task.type {job!r} is not a job of the cluster ({', '.join(cluster)})")
    in_range = str(index).isdecimal() and int(index) < len(cluster[job])
    last = len(cluster[job]) - 1
    require(in_range, f"task.index {index!r} must be from 0 to {last} for cluster.{job}")
    return config

"""The TensorFlow server of one host of a TPU slice.

    python -m tpu.worker [--port=8470]

One program on the first host trains a slice of several hosts, through a server on each. The
servers need no list of each other: the program sends it when it connects. SIGTERM ends a server,
with status 0. Anybody who can reach its port can run code there, so keep the port inside the
network of the slice. A slice of one host needs no server.
"""

import contextlib
import os
import signal
import sys

from pipelines.command_line import Stopped, one_line, run
from pipelines.flags import define_flags, parse_flags
from tpu import addresses
from tpu.slices import SLICES

MESH_PORT = "8476"  # of the controller that connects the hosts of a slice


def main(argv: list[str]) -> None:
    """The command, with its arguments without the program's name."""
    listen = "where to listen, on all interfaces; 0: any free port"
    values = define_flags(("port", addresses.PORT, listen, 0, 65535))
    parse_flags(values, argv, __doc__ or "")
    with contextlib.suppress(Stopped):  # the normal end of a server
        serve(values.port)


def serve(port: int) -> None:
    """Serves until a signal raises `Stopped`, at any free port if it is 0."""
    for name, value in slice_environment().items():
        os.environ.setdefault(name, value)
    # Not in `quiet_loading`: libtpu may abort the process here, and its output says why.
    import tensorflow as tf

    try:
        # TensorFlow uses only the port of this address, and listens on all interfaces.
        server = tf.distribute.Server(
            {"worker": [f"localhost:{port}"]}, job_name="worker", task_index=0
        )
    except tf.errors.OpError as error:
        raise ValueError(
            f"port {port}: TensorFlow cannot listen there ({one_line(error)})"
        ) from error
    print(f"tpu.worker: listening on port {server.target.rpartition(':')[2]}", flush=True)
    while True:
        signal.pause()


def slice_environment() -> dict[str, str]:
    """The environment variables that tell libtpu this host's place in its slice.

    They are those of `start_grpc_tpu_worker` in the package tensorflow-tpu. That function fails
    with a `KeyError` for types that it does not know, such as those of v6e.
    It is empty if this machine is not a TPU VM.
    """
    accelerator_type, hosts = addresses.find_vm()
    if accelerator_type is None:
        return {}
    environment = {
        "CLOUD_TPU_TASK_ID": addresses.metadata("instance/attributes/agent-worker-number"),
        "TPU_HOSTNAME_OVERRIDE": addresses.metadata("instance/network-interfaces/0/ip"),
        "TPU_LOCK_DEVICE": "true",
        "TPU_MESH_CONTROLLER_ADDRESS": f"{hosts[0].rpartition(':')[0]}:{MESH_PORT}",
        "TPU_MESH_CONTROLLER_PORT": MESH_PORT,
        "TPU_STDERR_LOG_LEVEL": "0",
    }
    known = SLICES.get(accelerator_type)
    if known and known.generation in ("v2", "v3"):  # libtpu knows the later ones itself
        rows, columns = known.topology
        environment["TPU_CHIPS_PER_HOST_BOUNDS"] = "2,2,1"
        environment["TPU_HOST_BOUNDS"] = f"{rows // 2},{columns // 2},1"
    return {name: value for name, value in environment.items() if value}


if __name__ == "__main__":
    sys.exit(run(main))

"""The server of one host of a slice, by plain TensorFlow: a cluster on this machine."""

import contextlib
import signal
import subprocess

import pytest

from tests.tpu.servers import background
from tpu import worker

# Places an operation on each server, and one on the first that needs both; prints the outcome.
PROGRAM = """
import json, signal, sys
import tensorflow as tf

addresses = json.loads(sys.stdin.readline())
tf.config.experimental_connect_to_cluster(tf.train.ClusterSpec({"worker": addresses}))

@tf.function
def sum_of_all():
    parts = []
    for task in range(len(addresses)):
        with tf.device(f"/job:worker/task:{task}"):
            parts.append(tf.constant(10.0) ** task)
    with tf.device("/job:worker/task:0"):
        return tf.add_n(parts)

for task in range(len(addresses)):
    with tf.device(f"/job:worker/task:{task}"):
        print((tf.constant(2) * 3).device, flush=True)
print(sum_of_all().numpy(), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def server():
    """A server on any free port; yields the process and the port."""
    code = "import sys; from pipelines.command_line import run; from tpu.worker import main\n"
    with background(f"{code}sys.exit(run(main, ['--port=0']))", stdout=subprocess.PIPE) as process:
        line = process.stdout.readline().strip()
        assert line.startswith("tpu.worker: listening on port "), line
        yield process, int(line.rpartition(" ")[2])


def run_program(addresses):
    """What the program prints; it is killed while it is connected."""
    with background(PROGRAM, stdout=subprocess.PIPE) as program:
        program.stdin.write(str(addresses).replace("'", '"') + "\n")
        program.stdin.flush()
        return [program.stdout.readline().strip() for _ in range(len(addresses) + 1)]


def expected(count):
    devices = [f"/job:worker/replica:0/task:{task}/device:CPU:0" for task in range(count)]
    return [*devices, str(float("1" * count))]


@pytest.mark.slow  # several processes that load TensorFlow
def test_two_servers_and_a_second_program_after_the_first_was_killed():
    # Any address but 127.0.0.1 shows that all interfaces are listened on.
    with server() as (first, one), server() as (_, two):
        assert run_program([f"127.0.0.2:{one}", f"localhost:{two}"]) == expected(2)
        # The order is the program's, not the servers'.
        assert run_program([f"localhost:{two}", f"127.0.0.2:{one}"]) == expected(2)
        with pytest.raises(ValueError, match=f"port {one}: "):
            worker.serve(one)
        first.send_signal(signal.SIGTERM)
        assert first.wait(30) == 0


# --- what libtpu is told -------------------------------------------------------------------------


def test_elsewhere_libtpu_is_told_nothing():
    assert worker.slice_environment() == {}


@pytest.mark.parametrize(
    ("accelerator_type", "bounds"),
    [
        # The table of start_grpc_tpu_worker in tensorflow-tpu 2.20.0.
        ("v2-256", "4,8,1"),
        ("v3-128", "4,4,1"),
        ("v4-32", None),  # from here on libtpu knows by itself
        ("v99-16", None),
    ],
)
def test_a_host_of_a_slice(google, accelerator_type, bounds):
    google["attributes/accelerator-type"] = (200, accelerator_type)
    google["attributes/worker-network-endpoints"] = (200, "unknown:unknown:10.0.0.5,a:b:10.0.0.6")
    google["attributes/agent-worker-number"] = (200, "1")
    google["network-interfaces/0/ip"] = (200, "10.0.0.6")
    environment = worker.slice_environment()
    assert environment.pop("TPU_HOST_BOUNDS", None) == bounds
    assert environment.pop("TPU_CHIPS_PER_HOST_BOUNDS", None) == (bounds and "2,2,1")
    assert environment == {
        "CLOUD_TPU_TASK_ID": "1",
        "TPU_HOSTNAME_OVERRIDE": "10.0.0.6",
        "TPU_LOCK_DEVICE": "true",
        "TPU_MESH_CONTROLLER_ADDRESS": "10.0.0.5:8476",
        "TPU_MESH_CONTROLLER_PORT": "8476",
        "TPU_STDERR_LOG_LEVEL": "0",
    }

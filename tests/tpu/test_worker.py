"""The server of one host of a slice, by plain TensorFlow: a cluster on this machine."""

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest

from tests.tpu.servers import ROOT, vm_answers
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
def background(*arguments):
    """A Python process that ends with the block."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    words = [sys.executable, *arguments]
    with subprocess.Popen(words, cwd=ROOT, env=environment, text=True, **pipes) as process:
        yield process
        process.kill()


@contextlib.contextmanager
def server():
    """A server on any free port; yields the process and the port."""
    with background("-m", "tpu.worker", "--port=0") as process:
        line = process.stdout.readline().strip()
        assert line.startswith("tpu.worker: listening on port "), line
        yield process, int(line.rpartition(" ")[2])


def run_program(addresses):
    """What the program prints; it is killed while it is connected."""
    with background("-c", PROGRAM) as program:
        program.stdin.write(json.dumps(addresses) + "\n")
        program.stdin.flush()
        return [program.stdout.readline().strip() for _ in range(len(addresses) + 1)]


@pytest.mark.slow  # several processes that load TensorFlow
def test_two_servers_and_a_second_program_after_the_first_was_killed():
    expected = [f"/job:worker/replica:0/task:{task}/device:CPU:0" for task in range(2)] + ["11.0"]
    # Any address but 127.0.0.1 shows that all interfaces are listened on.
    with server() as (first, one), server() as (_, two):
        assert run_program([f"127.0.0.2:{one}", f"localhost:{two}"]) == expected
        # The order is the program's, not the servers'.
        assert run_program([f"localhost:{two}", f"127.0.0.2:{one}"]) == expected
        with pytest.raises(ValueError, match=f"port {one}: "):
            worker.serve(one)
        first.send_signal(signal.SIGTERM)
        assert first.wait(30) == 0


@pytest.mark.parametrize(
    ("accelerator_type", "bounds"),
    # The table of start_grpc_tpu_worker in tensorflow-tpu 2.20.0; v4 and later know by themselves.
    [("v3-128", {"TPU_HOST_BOUNDS": "4,4,1", "TPU_CHIPS_PER_HOST_BOUNDS": "2,2,1"}), ("v4-32", {})],
)
def test_a_host_of_a_slice(google, accelerator_type, bounds):
    assert worker.slice_environment() == {}  # elsewhere
    google.update(vm_answers(accelerator_type, "10.0.0.5", "10.0.0.6"))
    google |= {"attributes/agent-worker-number": "1", "network-interfaces/0/ip": "10.0.0.6"}
    assert worker.slice_environment() == {
        **bounds,
        "CLOUD_TPU_TASK_ID": "1",
        "TPU_HOSTNAME_OVERRIDE": "10.0.0.6",
        "TPU_LOCK_DEVICE": "true",
        "TPU_MESH_CONTROLLER_ADDRESS": "10.0.0.5:8476",
        "TPU_MESH_CONTROLLER_PORT": "8476",
        "TPU_STDERR_LOG_LEVEL": "0",
    }

"""Accelerator types, checked against Google's tables and against libtpu."""

import json
import os
import subprocess
import sys

import pytest

from keras_vitbert.extras.ahead_of_time.compiler import ENVIRONMENT, topology_options
from tests.keras_vitbert.extras.ahead_of_time.results import needs_compiler
from tpu import slices
from tpu.slices import find_slice, slice_of


@pytest.mark.parametrize(
    ("name", "cores", "chips", "hosts", "topology", "replicas", "tflops", "gb_per_second"),
    [
        ("v5litepod-8", 8, 8, 1, "2x4", 8, 197, 819),
        ("v3-128", 128, 64, 16, "8x8", 128, 61.5, 450),
        ("v4-4096", 4096, 2048, 512, "8x16x16", 2048, 275, 1200),
        ("v6e-32", 32, 32, 8, "4x8", 32, 918, 1638),
    ],
)
def test_slice(name, cores, chips, hosts, topology, replicas, tflops, gb_per_second):
    found = find_slice(name)
    assert found.accelerator_type == name
    assert (found.cores, found.chips, found.hosts) == (cores, chips, hosts)
    assert (found.topology_name, found.replicas) == (topology, replicas)
    assert found.peak_flops == tflops * 1e12
    assert found.hbm_bandwidth == gb_per_second * 1e9
    assert topology_options(found)["topology_name"] == f"{found.generation}:{topology}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v3_128", "'v3_128'.* v3-128"),
        ("v5e-16", "'v5e-16'.* v5litepod-16"),
        ("v3-100", "'v3-100'.* v3-8, v3-32, v3-64, v3-128, .*, v3-2048"),
    ],
)
def test_unknown_slice(name, message):
    for find in (find_slice, slice_of):
        with pytest.raises(ValueError, match=message):
            find(name)


@pytest.mark.parametrize("name", ["my-tpu", "tpu-v3-8", "v3-128-a"])
def test_names_of_tpus(name):
    assert slice_of(name) is None


COUNTS = """
import json, sys
from jax.experimental import topologies
for options in json.load(sys.stdin):
    devices = topologies.get_topology_desc(platform="tpu", **options).devices
    print(json.dumps([len(devices), len({device.process_index for device in devices})]))
"""


@needs_compiler
@pytest.mark.slow
def test_libtpu_counts_the_same():
    """Devices and hosts of every slice, by libtpu's compile-only client, which needs no TPU."""
    known = list(slices.SLICES.values())
    questions = [topology_options(found) for found in known]
    done = subprocess.run(
        [sys.executable, "-c", COUNTS],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        env={**os.environ, **ENVIRONMENT},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers == [[found.replicas, found.hosts] for found in known]

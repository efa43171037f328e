"""Bad `--tpu`s and a bad `TF_CONFIG` get one line within seconds."""

import importlib.util
import os
import subprocess
import sys
from importlib import metadata

import pytest

from tests.tpu.refusals import refused
from tests.tpu.servers import ROOT, node_answers, vm_answers
from tpu import strategy

# --- accelerator types and names ---------------------------------------------------------------


def test_accelerator_type_that_is_nowhere():
    host = os.environ["GCE_METADATA_HOST"]
    refused("v3-128", message=rf"'v3-128'.*{host}.*/dev/accel\*, /dev/vfio")


@pytest.mark.parametrize(
    ("tpu", "answers", "message"),
    [
        ("v3-128", vm_answers("v3-8"), "'v3-128'.* v3-8"),
        ("v3-32", vm_answers("v3-32", "a"), "grpc://a:8470"),
        ("my-tpu", node_answers("v9-8", "a"), "'v9-8'"),
    ],
)
def test_google_cloud_tells_of_another_tpu(google, tpu, answers, message):
    google.update(answers)
    refused(tpu, message=message)


def test_hosts_of_a_slice_are_counted(tpu_hosts, google, monkeypatch):
    refused("v3-128", tpu_hosts[0], "'v3-128'.* 16 .* 1")
    refused("v3-8", ",".join(tpu_hosts), "'v3-8'.* 1 .* 2")


def test_chips_that_are_not_enough(chips, google):
    refused("local", message="'local'")
    chips(4)
    refused("v3-32", message="'v3-32'.*4 chips of 16")
    google.update(vm_answers("v3-32", "a", "b", "c", "d"))
    refused("local", message="'local'.* 4 hosts of a v3-32")


# --- without JAX ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tpu, gpus, extra",
    [("v3-8", 0, "jax-tpu"), ("local", 1, "jax-tpu"), (None, 1, "jax-cuda"), (None, 0, "jax")],
)
def test_the_jax_of_the_devices_is_advised(chips, tmp_path, monkeypatch, tpu, gpus, extra):
    chips(4)
    for number in range(gpus):
        (tmp_path / f"nvidia{number}").touch()
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(strategy, "NVIDIA", f"{tmp_path}/nvidia[0-9]*")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf'run: pip install -e "\.\[{extra}\]" in'):
        strategy.get_strategy(tpu)
    assert extra in metadata.metadata("keras-vitbert").get_all("Provides-Extra")


# --- before TensorFlow is loaded ------------------------------------------------------------------


def test_checks_come_before_tensorflow(places):
    """They say no to a bad address, and to a server without TPUs, before it is loaded."""
    code = f"""
import sys
from keras_vitbert import pretrain
from pipelines import command_line
from tpu import addresses
from tpu.strategy import get_strategy
addresses.CHIPS = ()
for tpu in ("v3-100", "v3-8", "grpc://{places["plain"]}"):
    try:
        get_strategy(tpu)
    except ValueError as error:
        print("tensorflow" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.splitlines() == ["False"] * 3 and not done.stderr

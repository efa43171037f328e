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

# --- values that are wrong by themselves -------------------------------------------------------


# --- accelerator types and names ---------------------------------------------------------------


def test_accelerator_type_that_is_nowhere():
    host = os.environ["GCE_METADATA_HOST"]
    message = (
        rf"^--tpu=v3-128: no such TPU found: no --tpu_address; metadata server {host}: no answer "
        r"\(Connection refused\); no TPU chips in this machine \(.*accel\*, .*vfio.*\); give "
        r"--tpu_address=grpc://HOST:8470 .*keras_vitbert\.aot --tpu=v3-128` proves the run"
    )
    refused("v3-128", message=message)


@pytest.mark.parametrize(
    ("tpu", "answers", "message"),
    [
        (
            "v3-128",
            vm_answers("v3-8"),
            "^--tpu=v3-128: this machine belongs to a v3-8; give --tpu=v3-8$",
        ),
        (
            "v3-32",
            vm_answers("v3-32"),
            "^--tpu=v3-32: has 4 hosts, but there are addresses of 0; give",
        ),
        (
            "my-tpu",
            node_answers("v9-8", "a"),
            "^--tpu=my-tpu: it is of an unknown type: .*v9-8",
        ),
    ],
)
def test_google_cloud_tells_of_another_tpu(google, tpu, answers, message):
    google.update(answers)
    refused(tpu, message=message)


def test_hosts_of_a_slice_are_counted(tpu_hosts, google, monkeypatch):
    refused("v3-128", tpu_hosts[0], "^--tpu=v3-128: has 16 hosts, but there are addresses of 1;")
    refused("v3-8", ",".join(tpu_hosts), "^--tpu=v3-8: has 1 hosts, but there are addresses of 2;")


def test_chips_that_are_not_enough(chips, google):
    refused("local", message=r"^--tpu=local: no TPU chips in this machine \(.*\); run on a TPU VM")
    chips(4)
    refused("v3-32", message="; 4 chips of 16 in this machine; give --tpu_address")
    google.update(vm_answers("v3-32", "a", "b", "c", "d"))
    refused("local", message="is one of the 4 hosts of a v3-32; give --tpu=v3-32$")


# --- without --tpu --------------------------------------------------------------------------------


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
from tpu.strategy import check_flags
addresses.CHIPS = ()
for tpu in ("v3-100", "v3-8", "grpc://{places["plain"]}"):
    try:
        check_flags(tpu)
    except ValueError as error:
        print(str(error)[:11], "tensorflow" in sys.modules)
assert check_flags() is None
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    expected = ["--tpu=v3-10 False", "--tpu=v3-8: False", "TPU address False"]
    assert done.stdout.splitlines() == expected and not done.stderr

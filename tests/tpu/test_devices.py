import types

import pytest

from tpu.devices import gpu_peak, peak_flops


@pytest.mark.parametrize(
    ("name", "dtype", "teraflops"),
    [
        ("NVIDIA A100-SXM4-40GB", "mixed_bfloat16", 312),
        ("NVIDIA A100-SXM4-40GB", "float32", 156),
        ("NVIDIA A1000", "float32", None),
    ],
)
def test_of_a_gpu(name, dtype, teraflops):
    assert gpu_peak(name, dtype) == (teraflops and pytest.approx(teraflops * 1e12))
    assert gpu_peak("NVIDIA A100-SXM4-40GB", "float32", tf32=False) == 19.5e12


@pytest.mark.parametrize(
    "replicas, tpu, teraflops", [(128, "v3-128", 64 * 123), (4, "v4-8", 4 * 275), (1, None, None)]
)
def test_of_a_tpu_and_of_a_cpu(replicas, tpu, teraflops):
    """Of a chip of v3, two cores are replicas."""
    devices = types.SimpleNamespace(num_replicas_in_sync=replicas)
    found = peak_flops(devices, "mixed_bfloat16", tpu)
    assert found == (teraflops and pytest.approx(teraflops * 1e12))

import types

import pytest

from tpu.devices import gpu_peak, peak_flops


@pytest.mark.parametrize(
    ("name", "dtype", "teraflops"),
    [
        ("NVIDIA A100-SXM4-40GB", "mixed_bfloat16", 312),
        ("NVIDIA A100-SXM4-40GB", "float32", 156),
        ("NVIDIA H100 80GB HBM3", "mixed_bfloat16", 989),
        ("NVIDIA L40S", "float32", 183),
        ("Tesla T4", "mixed_bfloat16", None),
        ("NVIDIA A1000", "float32", None),
    ],
)
def test_of_a_gpu(name, dtype, teraflops):
    assert gpu_peak(name, dtype) == (teraflops and pytest.approx(teraflops * 1e12))


def test_products_of_float32_without_tf32():
    assert gpu_peak("NVIDIA A100-SXM4-40GB", "float32", tf32=False) == 19.5e12


def test_of_a_tpu_and_of_a_cpu():
    def devices(replicas):
        return types.SimpleNamespace(num_replicas_in_sync=replicas)

    # 123 TFLOP/s a chip of v3, whose two cores are replicas; one replica a chip of v4.
    assert peak_flops(devices(128), "mixed_bfloat16", "v3-128") == pytest.approx(64 * 123e12)
    assert peak_flops(devices(4), "mixed_bfloat16", "v4-8") == pytest.approx(4 * 275e12)
    assert peak_flops(devices(8), "float32", "v6e-8") == pytest.approx(8 * 918e12)
    assert peak_flops(devices(8), "float32", "grpc://h:8470") is None
    assert peak_flops(devices(8), "float32", "v9-8") is None
    assert peak_flops(devices(1), "float32") is None

"""The peak operations a second of accelerators, to compare with those of a run.

The figures are for dense products, as the makers state them. For float32 on GPUs that is TF32,
which TensorFlow uses for products unless it is turned off. TPUs make products of float32 in
bfloat16, too.
"""

from typing import Any

from tpu.devices import gpu_names
from tpu.slices import SLICES

# Part of a GPU's name: TFLOP/s in bfloat16, in TF32, and in plain float32. If a name has several
# of the parts, the first one counts.
_GPUS = {
    "H200": (989, 494, 67),
    "H100 PCIe": (756, 378, 51),
    "H100 NVL": (835, 417, 60),
    "H100": (989, 494, 67),
    "H800": (989, 494, 67),
    "A100": (312, 156, 19.5),
    "A800": (312, 156, 19.5),
    "A30": (165, 82, 10.3),
    "A40": (150, 75, 37.4),
    "L40S": (362, 183, 91.6),
    "L4": (121, 60, 30.3),
    "RTX 4090": (165, 82.6, 82.6),
    "RTX 3090": (71, 35.6, 35.6),
    "V100": (None, None, 15.7),
    "T4": (None, None, 8.1),
}


def peak_flops(strategy: Any, dtype: str, tpu: str | None = None) -> float | None:
    """The peak operations a second of all devices of a strategy together, in a dtype policy.

    Args:
        strategy, tpu: see `tpu.strategy.get_strategy`.
        dtype: the dtype policy.

    Returns:
        None where it is not known, as for any CPU.
    """
    replicas = strategy.num_replicas_in_sync
    if tpu is not None:
        return SLICES[tpu].peak_flops * replicas if tpu in SLICES else None
    names = set(gpu_names())
    if not names:
        return None
    import tensorflow as tf

    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    peaks = {gpu_peak(name, dtype, tf32) for name in names}
    return peaks.pop() * replicas if len(peaks) == 1 and None not in peaks else None


def gpu_peak(name: str, dtype: str, tf32: bool = True) -> float | None:
    """The peak operations a second of one GPU; None if it is not known.

    Args:
        name: such as `NVIDIA A100-SXM4-40GB`.
        dtype: the dtype policy.
        tf32: whether products of float32 may be made in TF32.
    """
    words = f" {name.replace('-', ' ')} "
    found = next((peaks for part, peaks in _GPUS.items() if f" {part} " in words), (None,) * 3)
    bfloat16, in_tf32, float32 = found
    if dtype != "float32":
        peak = bfloat16
    else:
        peak = in_tf32 if tf32 and in_tf32 else float32
    return None if peak is None else peak * 1e12

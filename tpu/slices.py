"""What the accelerator type of a Cloud TPU means: `v3-128` is 64 chips on 16 hosts, 8 x 8.

An accelerator type is the generation and the number of TensorCores of a slice of a TPU pod. (For
v5e and v6e Google counts chips, which have one core each.) It is not an address; `strategy` finds
that.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

from pipelines.command_line import meant


@dataclasses.dataclass(frozen=True)
class Slice:
    """The part of a TPU pod that one accelerator type stands for."""

    accelerator_type: str  # such as `v3-128`
    generation: str  # such as `v5e`
    cores: int  # TensorCores
    chips: int
    hosts: int  # the virtual machines that the chips are attached to
    topology: tuple[int, ...]  # two or three sides: how the chips are arranged
    replicas: int  # of `TPUStrategy`; the two cores of a chip of v4 and v5p act as one ("megacore")
    peak_flops: float  # bfloat16 operations a second of one replica
    hbm_bandwidth: float  # bytes a second of one replica

    @property
    def topology_name(self) -> str:
        """The topology as Google writes it, such as `8x8`."""
        return "x".join(map(str, self.topology))


def find_slice(name: str) -> Slice:
    """The slice that an accelerator type, such as `v3-128`, stands for."""
    if name in SLICES:
        return SLICES[name]
    prefixes = {known.partition("-")[0]: f"{known.partition('-')[0]}-N" for known in SLICES}
    sizes = [known for known in SLICES if known.startswith(f"{name.partition('-')[0]}-")]
    # Types of v5e are named v5litepod.
    close = "" if sizes else meant(name.lower().replace("v5e", "v5litepod"), SLICES)
    known = ", ".join(sizes or prefixes.values())
    raise ValueError(f"tpu {name!r}: not an accelerator type of a TPU{close}; known are {known}")


def slice_of(name: str) -> Slice | None:
    """The slice that a text stands for if it looks like an accelerator type, right or wrong.

    A TPU's own name may also begin like that, but `v3-12x` is far more likely to be a typo.
    """
    pattern = r"v?\d+[a-z]*(\W*_?\d\w*)?\W?"
    return find_slice(name) if re.fullmatch(pattern, name.strip(), re.IGNORECASE) else None


_2D = "1x1 2x2 2x4 4x4 4x8 8x8 8x16 16x16"
_3D = "2x2x1 2x2x2 2x2x4 2x4x4 4x4x4 4x4x8 4x8x8 8x8x8 8x8x16 8x16x16"
_TABLE = (
    # Name and prefix; cores and replicas a chip; TFLOP/s and GB/s a chip; how many chips a single
    # host can have (each of several has four); topologies.
    ("v2", "v2", 2, 2, 45, 700, 4, "2x2 4x4 8x8 8x16 16x16"),
    ("v3", "v3", 2, 2, 123, 900, 4, "2x2 4x4 4x8 8x8 8x16 16x16 16x32 32x32"),
    ("v4", "v4", 2, 1, 275, 1200, 4, _3D),
    ("v5e", "v5litepod", 1, 1, 197, 819, 8, _2D),
    ("v5p", "v5p", 2, 1, 459, 2765, 4, f"{_3D} 16x16x16 16x16x24"),
    ("v6e", "v6e", 1, 1, 918, 1638, 8, _2D),
)


def _read_table() -> Iterator[Slice]:
    for name, prefix, cores, replicas, tflops, gigabytes, alone, topologies in _TABLE:
        for text in topologies.split():
            topology = tuple(int(side) for side in text.split("x"))
            chips = math.prod(topology)
            yield Slice(
                accelerator_type=f"{prefix}-{chips * cores}",
                generation=name,
                cores=chips * cores,
                chips=chips,
                hosts=1 if chips <= alone else chips // 4,
                topology=topology,
                replicas=chips * replicas,
                peak_flops=tflops * 1e12 / replicas,
                hbm_bandwidth=gigabytes * 1e9 / replicas,
            )


SLICES = {known.accelerator_type: known for known in _read_table()}

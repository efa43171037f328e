"""What the accelerator type of a Cloud TPU means: `v3-128` is 64 chips on 16 hosts, 8 x 8.

An accelerator type is the generation and the number of TensorCores of a slice of a TPU pod. (For
v5e and v6e Google counts chips, which have one core each.) It is no address: where a slice is
found, `strategy` says.
"""

import dataclasses
import difflib
import math
import re

from pipelines.command_line import UserError

_DOCS = "https://cloud.google.com/tpu/docs/"


@dataclasses.dataclass(frozen=True)
class Generation:
    """A generation of TPUs; the figures are those of one chip.

    Attributes:
        name: str, such as `v5e`.
        prefix: str, of its accelerator types, such as `v5litepod`.
        cores_per_chip: int, TensorCores.
        replicas_per_chip: int, how many devices TensorFlow sees. The two cores of v4 and v5p act
            as one ("megacore").
        hbm_per_chip: int, bytes of high-bandwidth memory, of which the runtime keeps a few percent.
        peak_flops_per_chip: float, bfloat16 operations a second.
        hbm_bandwidth_per_chip: float, bytes a second.
        source: str, the page of Google's documentation with these figures.
    """

    name: str
    prefix: str
    cores_per_chip: int
    replicas_per_chip: int
    hbm_per_chip: int
    peak_flops_per_chip: float
    hbm_bandwidth_per_chip: float
    source: str


@dataclasses.dataclass(frozen=True)
class Slice:
    """The part of a TPU pod that one accelerator type stands for.

    Attributes:
        accelerator_type: str, such as `v3-128`.
        generation: `Generation`.
        cores: int, TensorCores.
        chips: int.
        hosts: int, the virtual machines that the chips are attached to.
        topology: tuple of two or three int, how the chips are arranged.
    """

    accelerator_type: str
    generation: Generation
    cores: int
    chips: int
    hosts: int
    topology: tuple[int, ...]

    @property
    def replicas(self):
        """How many replicas `tf.distribute.TPUStrategy` trains."""
        return self.chips * self.generation.replicas_per_chip

    @property
    def hbm_per_replica(self):
        """Bytes of high-bandwidth memory."""
        return self.generation.hbm_per_chip // self.generation.replicas_per_chip

    @property
    def peak_flops_per_replica(self):
        """Bfloat16 operations a second."""
        return self.generation.peak_flops_per_chip / self.generation.replicas_per_chip

    @property
    def hbm_bandwidth_per_replica(self):
        """Bytes a second."""
        return self.generation.hbm_bandwidth_per_chip / self.generation.replicas_per_chip

    @property
    def topology_name(self):
        """The topology as Google writes it, such as `8x8`."""
        return "x".join(map(str, self.topology))

    @property
    def compiler_topology(self):
        """What the compile-only client of libtpu calls the slice, such as `v3:8x8`."""
        return f"{self.generation.name}:{self.topology_name}"

    @property
    def compiler_options(self):
        """Keyword arguments that this client needs besides, to see the hosts and replicas."""
        alone = self.hosts == 1
        bounds = (*self.topology, 1)[:3] if alone else (2, 2, 1)
        options = {"chips_per_host_bounds": bounds}
        if self.generation.name == "v4":  # else it has a device a core
            options["chip_config_name"] = "megacore"
        return options


def find_slice(name):
    """The slice that an accelerator type stands for.

    Args:
        name: str, what `--tpu` was given.

    Raises:
        UserError: there is no such type; the known sizes of its generation are named.
    """
    if name in SLICES:
        return SLICES[name]
    lowered = name.strip().lower()
    prefix, size = re.match(r"(v?\d*[a-z]*)\W*_?(.*)", lowered, re.DOTALL).groups()
    prefix = _ALIASES.get(prefix, prefix)
    guess = f"{prefix}-{size}"
    sizes = [known for known in SLICES if known.rpartition("-")[0] == prefix]
    if guess in SLICES:
        hint = f" (did you mean {guess}?)"
    elif sizes:
        hint = f"; known are {', '.join(sizes)}"
    else:
        close = difflib.get_close_matches(lowered, SLICES, n=1, cutoff=0.8)
        hint = f" (did you mean {close[0]}?)" if close else ""
        hint += f"; known are {_known_types()}"
    raise UserError(f"{as_flag(name)}: not an accelerator type of a TPU{hint}")


def is_accelerator_type(name):
    """Whether a text looks as if it were meant as an accelerator type, right or wrong.

    A TPU's own name may begin so too, but `v3-12x` is far more likely to be a slip.
    """
    return bool(re.fullmatch(r"v?\d+[a-z]*(\W*_?\d\w*)?\W?", name.strip(), re.IGNORECASE))


def as_flag(value, name="tpu"):
    """`--tpu=VALUE` for a message, quoted where the value would break the line or fall apart."""
    plain = value.isprintable() and " " not in value
    return f"--{name}={value if plain else repr(value)}"


def _known_types():
    sizes = {}
    for name, known in SLICES.items():
        sizes.setdefault(known.generation.name, []).append(name)
    return ", ".join(f"{names[0]} to {names[-1]}" for names in sizes.values())


_2D = "1x1 2x2 2x4 4x4 4x8 8x8 8x16 16x16"
_3D = "2x2x1 2x2x2 2x2x4 2x4x4 4x4x4 4x4x8 4x8x8 8x8x8 8x8x16 8x16x16"
_TABLE = (
    # Name and prefix; cores and replicas a chip; GiB, TFLOP/s and GB/s a chip; how many chips a
    # host can have where there is one (else it has four); topologies. The GB of memory that Google
    # gives for v5e and v6e are GiB: libtpu lets a program have 15.75 and 31.25 GiB.
    ("v2", "v2", 2, 2, 16, 45, 700, 4, "2x2 4x4 8x8 8x16 16x16"),
    ("v3", "v3", 2, 2, 32, 123, 900, 4, "2x2 4x4 4x8 8x8 8x16 16x16 16x32 32x32"),
    ("v4", "v4", 2, 1, 32, 275, 1200, 4, _3D),
    ("v5e", "v5litepod", 1, 1, 16, 197, 819, 8, _2D),
    ("v5p", "v5p", 2, 1, 95, 459, 2765, 4, f"{_3D} 16x16x16 16x16x24"),
    ("v6e", "v6e", 1, 1, 32, 918, 1638, 8, _2D),
)
_ALIASES = {"v5e": "v5litepod", "v5lite": "v5litepod", "v6": "v6e"}


def _read_table():
    for name, prefix, cores, replicas, hbm, flops, bandwidth, alone, topologies in _TABLE:
        generation = Generation(
            name, prefix, cores, replicas, hbm * 2**30, flops * 1e12, bandwidth * 1e9, _DOCS + name
        )
        for text in topologies.split():
            topology = tuple(int(side) for side in text.split("x"))
            chips = math.prod(topology)
            hosts = 1 if chips <= alone else chips // 4
            accelerator_type = f"{prefix}-{chips * cores}"
            yield Slice(accelerator_type, generation, chips * cores, chips, hosts, topology)


SLICES = {known.accelerator_type: known for known in _read_table()}

"""The `merge` section: a rule per entry, a weighting, or both joined by a `+`; their options."""

import dataclasses
import math

from keras_vitbert.configs.sections import Section, choice, flatten, ranged
from pipelines.command_line import meant

MASKS = ("mask", "random_mask")
ENTRIES = (*MASKS, "graddrop")
WEIGHTINGS = (
    *("sum", "pcgrad", "upgrad", "dualproj", "gradvac"),
    *("nash", "fairgrad", "imtl_g", "conflict_free", "ntkmtl"),
    *("mgda", "sdmgrad", "cagrad", "aligned"),
    *("uncertainty", "dwa", "gradnorm", "famo", "random", "alternate"),
)
# Weightings of whole losses, which cannot weigh by block or only some blocks.
OF_LOSSES = ("sum", "uncertainty", "dwa", "gradnorm", "famo", "random", "alternate")
RANKS = ("text", "image", "ratio", "sign")
SCOPES = ("all", "tensor")


def parts_of(name):
    """The parts of a merge's name.

    Args:
        name: str, such as `mask`, `pcgrad` or `mask+pcgrad`.

    Returns:
        (str, of `ENTRIES`, or None; str, of `WEIGHTINGS`, or None).

    Raises:
        ValueError: it is not a merge; says what to give.
    """
    first, plus, second = name.partition("+")
    if not plus:
        if name in ENTRIES:
            return name, None
        if name in WEIGHTINGS:
            return None, name
        known = (*ENTRIES, *WEIGHTINGS)
        names = ", ".join(known)
        raise ValueError(f"must be one of {names}, or such as mask+pcgrad{meant(name, known)}")
    if first not in ENTRIES or second not in WEIGHTINGS:
        raise ValueError(
            f"must be one of {', '.join(ENTRIES)}, a + and one of {', '.join(WEIGHTINGS)}"
        )
    if second == "alternate":
        raise ValueError(
            "alternate uses one gradient per step, so a rule per entry has nothing to merge"
        )
    return first, second


def has_masks(name):
    """Whether a merge, by its checked name, has gradient masks.

    Args:
        name: str.
    """
    return parts_of(name)[0] in MASKS


def without_masks(name):
    """The same merge without gradient masks, or `sum` if nothing else is left: str.

    Args:
        name: str, checked.
    """
    return (parts_of(name)[1] or "sum") if has_masks(name) else name


def blocks_of(text):
    """The range of `merge.blocks`.

    Args:
        text: str, such as `2:10`; empty for all blocks.

    Returns:
        pair of int, or None for all.

    Raises:
        ValueError: it is not a range.
    """
    if not text:
        return None
    first, _, end = text.partition(":")
    if not (first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise ValueError(f"blocks={text!r}: must be FIRST:END, such as 2:10, or empty for all")
    return int(first), int(end)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradVac(Section):
    """Options of `gradvac`."""

    beta: float = ranged(0.01, "[0, 1]")  # of the moving average of cosines


@dataclasses.dataclass(frozen=True, kw_only=True)
class FairGrad(Section):
    """Options of `fairgrad`."""

    alpha: float = ranged(2.0, "(0, inf)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NTKMTL(Section):
    """Options of `ntkmtl`."""

    exponent: float = ranged(0.5, "[0, inf)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SDMGrad(Section):
    """Options of `sdmgrad`."""

    strength: float = ranged(0.3, "[0, inf)")  # of the pull towards the mean gradient


@dataclasses.dataclass(frozen=True, kw_only=True)
class CAGrad(Section):
    """Options of `cagrad`."""

    radius: float = ranged(0.5, "[0, 1)")  # around the mean gradient, in its norms


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradDrop(Section):
    """Options of `graddrop`."""

    leak: float = ranged(0.0, "[0, 1]")  # share of a gradient that is never dropped


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uncertainty(Section):
    """Options of `uncertainty`."""

    rate: float = ranged(0.01, "(0, inf)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DWA(Section):
    """Options of `dwa`."""

    temperature: float = ranged(2.0, "(0, inf)")
    window: int = ranged(100, "[1, inf)")  # steps that a loss is averaged over


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradNorm(Section):
    """Options of `gradnorm`."""

    alpha: float = 1.5
    rate: float = ranged(0.025, "(0, inf)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FAMO(Section):
    """Options of `famo`."""

    rate: float = ranged(0.025, "(0, inf)")
    decay: float = ranged(0.001, "[0, inf)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Merge(Section):
    """How the gradients of both modalities become one (eq. 8 and 9, Algorithm 1, and others)."""

    name: str = "mask"  # or another of docs/merging.md, or such as mask+pcgrad
    image_loss_ratio: float = ranged(0.2, "[0, 1]")  # r of eq. 9, for sum
    mask_ratio: float = ranged(0.5, "[0, 1]")  # sparsity to reach
    # No run has the steps for smaller ones.
    mask_ratio_per_update: float = ranged(0.1, "[1e-9, 1]")
    mask_update_interval: int = ranged(10_000, "[1, inf)")  # steps
    mask_rank: str = choice("text", RANKS)  # or image, ratio, sign; not in the paper
    mask_scope: str = choice("all", SCOPES)  # or tensor; not in the paper
    mask_cumulative: bool = True  # or False: drawn again at every update; not in the paper
    # Share of the other gradient in each entry; not in the paper.
    mask_softness: float = ranged(0.0, "[0, 0.5]")
    per_block: bool = False  # whether each block is weighted by itself; not in the paper
    blocks: str = ""  # such as 2:10, to merge only these this way; not in the paper
    # Not in the paper:
    gradvac: GradVac = GradVac()
    fairgrad: FairGrad = FairGrad()
    ntkmtl: NTKMTL = NTKMTL()
    sdmgrad: SDMGrad = SDMGrad()
    cagrad: CAGrad = CAGrad()
    graddrop: GradDrop = GradDrop()
    uncertainty: Uncertainty = Uncertainty()
    dwa: DWA = DWA()
    gradnorm: GradNorm = GradNorm()
    famo: FAMO = FAMO()

    def __post_init__(self):
        super().__post_init__()
        try:
            parts_of(self.name)
        except ValueError as error:
            raise ValueError(f"name={self.name!r}: {error}") from None
        weighting = parts_of(self.name)[1]
        if self.blocks or self.per_block:
            field = "blocks" if self.blocks else "per_block"
            whole = weighting in OF_LOSSES or self.per_block and weighting is None
            self.require(not whole, field, f"left out: {self.name} weighs no blocks")
        blocks_of(self.blocks)

    @property
    def has_masks(self) -> bool:
        """Whether it masks gradients."""
        return has_masks(self.name)

    @property
    def mask_updates(self) -> int:
        """How many updates the masks take to reach `mask_ratio`."""
        return math.ceil(self.mask_ratio / self.mask_ratio_per_update - 1e-9)

    def unread(self, masks: bool = True) -> dict[str, str]:
        """Fields that have no effect, each with the reason.

        Args:
            masks: whether the variant has gradient masks where `name` has them. If not, settings of
                masks still count as read: variants can share a command line.
        """
        entries, weighting = parts_of(self.name)
        reason, flat = f"merge.name={self.name}", flatten(self)
        of_others = [field for field in flat if "." in field]
        of_others = [f for f in of_others if f.partition(".")[0] not in (entries, weighting)]
        found = dict.fromkeys(of_others, reason)
        left = self.name if masks else without_masks(self.name)
        if parts_of(left)[1] != "sum" and not self.blocks:
            found["image_loss_ratio"] = f"merge.name={left}"
        if entries not in MASKS:
            found |= {field: reason for field in flat if field.startswith("mask_")}
        elif entries == "random_mask":
            found["mask_rank"] = reason
        return found

"""The `merge` section: a rule per entry, a weighting, or both joined by a `+`; their options."""

import dataclasses
import math
import re

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
SCOPES = ("global", "layerwise")


def split_name(name: str) -> tuple[str | None, str | None]:
    """The two halves of a merge's name: one of `ENTRIES` or None, one of `WEIGHTINGS` or None."""
    first, _, second = name.partition("+")
    return (first, second or None) if first in ENTRIES else (None, first)


def has_masks(name: str) -> bool:
    """Whether a merge, by its name, has gradient masks."""
    return split_name(name)[0] in MASKS


def without_masks(name: str) -> str:
    """The same merge, by its name, without gradient masks; `sum` if nothing is left."""
    return (split_name(name)[1] or "sum") if has_masks(name) else name


def blocks_of(text: str) -> tuple[int, int] | None:
    """The first block and the end of a range such as `2:10`; None for all blocks, an empty text."""
    first, _, end = text.partition(":")
    return (int(first), int(end)) if text else None


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
    mask_criterion: str = choice("text", RANKS)  # or image, ratio, sign; not in the paper
    mask_scope: str = choice("global", SCOPES)  # or layerwise; not in the paper
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

    def __post_init__(self) -> None:
        super().__post_init__()
        first, plus, second = self.name.partition("+")
        known = (*ENTRIES, *WEIGHTINGS)
        # `alternate` uses one gradient a step: a rule for each entry has nothing to merge.
        fits = first in ENTRIES and second in WEIGHTINGS and second != "alternate"
        self.require(
            fits if plus else first in known,
            "name",
            f"one of {', '.join(known)}, or one of the first {len(ENTRIES)}, a + and one of the "
            f"others but alternate, such as mask+pcgrad{meant(self.name, known)}",
        )
        weighting = split_name(self.name)[1]
        if self.blocks or self.per_block:
            field = "blocks" if self.blocks else "per_block"
            whole = weighting in OF_LOSSES or self.per_block and weighting is None
            self.require(not whole, field, f"left out: {self.name} weighs no blocks")
        blocks = re.fullmatch(r"(\d+):(\d+)|", self.blocks, re.ASCII)
        fits = blocks and (not self.blocks or int(blocks[1]) < int(blocks[2]))
        self.require(bool(fits), "blocks", "FIRST:END, such as 2:10, or empty for all")

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

        Without `masks`, the variant has none where `name` has them. Their settings still count as
        read: variants can share a command line.
        """
        entries, weighting = split_name(self.name)
        reason, without_effect = f"merge.name={self.name}", {}
        for field in flatten(self):
            section, dot, _ = field.partition(".")
            if dot and section not in (entries, weighting):
                without_effect[field] = reason
            elif field.startswith("mask_") and entries not in MASKS:
                without_effect[field] = reason
        if entries == "random_mask":
            without_effect["mask_criterion"] = reason
        left = self.name if masks else without_masks(self.name)
        if split_name(left)[1] != "sum" and not self.blocks:
            without_effect["image_loss_ratio"] = f"merge.name={left}"
        return without_effect

"""What the masks of Algorithm 1 have cleared: counts of all masks, and the masks of some blocks.

For every update, RUN/inspection/masks-STEP.npz holds, see `value_files`:

step                  the step that made the update: masks as they are after that many steps
blocks, kinds         names of the rows and columns that follow
entries, cleared      `(blocks, kinds)`, the number of entries, and how many are cleared
sparsity              `(blocks, kinds)`, cleared / entries; NaN where there are no entries
bits/BLOCK/KIND       the kept entries of the kernels of some blocks, packed by `np.packbits`
shape/BLOCK/KIND      `(inputs, outputs)` of the kernel
"""

import dataclasses

import numpy as np

from keras_vitbert.inspection.value_files import read_values, write_values
from keras_vitbert.model.shared_weights import KINDS, block_of, kind_of

FILES = "masks"


@dataclasses.dataclass(frozen=True)
class MaskValues:
    """The masks after an update.

    Attributes:
        step: int, the step that made the update.
        blocks: list of str.
        entries, cleared: int64 arrays `(blocks, kinds)`; the kinds are `KINDS`.
        kept: dict of a block's name to a dict of a kind to a bool array `(inputs, outputs)`, of the
            kernels of the first, the middle and the last block; true where text updates.
    """

    step: int
    blocks: list[str]
    entries: np.ndarray
    cleared: np.ndarray
    kept: dict[str, dict[str, np.ndarray]]

    @classmethod
    def of(cls, step, masks):
        """The values for some masks.

        Args:
            step: int, the step that made the update.
            masks: dict of a variable's path to a bool array.
        """
        blocks = list(dict.fromkeys(block_of(path) for path in masks))
        entries = np.zeros((len(blocks), len(KINDS)), np.int64)
        cleared = np.zeros_like(entries)
        kept = {block: {} for block in pictured(blocks)}
        for path, mask in masks.items():
            block, kind = block_of(path), kind_of(path)
            place = blocks.index(block), KINDS.index(kind)
            entries[place] += mask.size
            cleared[place] += mask.size - np.count_nonzero(mask)
            if block in kept and path.endswith("/kernel"):
                kept[block][kind] = _as_matrix(mask, kind)
        return cls(step, blocks, entries, cleared, kept)

    @classmethod
    def read(cls, path, steps=None):
        """Values that a run has written: list of `MaskValues`, the steps ascending.

        Args:
            path: str, the run's folder.
            steps: list of int, some of `stored_steps`; all by default.
        """
        return [cls._from_arrays(arrays) for arrays in read_values(path, FILES, steps).values()]

    @classmethod
    def _from_arrays(cls, arrays):
        kept = {}
        for name in arrays:
            what, _, place = name.partition("/")
            if what == "bits":
                block, kind = place.split("/")
                shape = arrays[f"shape/{place}"]
                bits = np.unpackbits(arrays[name])[: np.prod(shape)]
                kept.setdefault(block, {})[kind] = bits.reshape(shape).astype(bool)
        blocks = arrays["blocks"].tolist()
        return cls(int(arrays["step"]), blocks, arrays["entries"], arrays["cleared"], kept)

    def write(self, folder):
        """Writes the file of this update.

        Args:
            folder: `RunFolder`.
        """
        kernels = {}
        for block, kinds in self.kept.items():
            for kind, mask in kinds.items():
                kernels[f"bits/{block}/{kind}"] = np.packbits(mask)
                kernels[f"shape/{block}/{kind}"] = np.array(mask.shape)
        write_values(
            folder,
            FILES,
            self.step,
            blocks=np.array(self.blocks),
            kinds=np.array(KINDS),
            entries=self.entries,
            cleared=self.cleared,
            sparsity=fraction(self.cleared, self.entries),
            **kernels,
        )

    @property
    def of_blocks(self):
        """Sparsity of every block: dict of name to float."""
        found = fraction(self.cleared.sum(axis=1), self.entries.sum(axis=1))
        return dict(zip(self.blocks, found.tolist(), strict=True))

    @property
    def of_kinds(self):
        """Sparsity of every kind of weight, over all blocks: dict of name to float."""
        found = fraction(self.cleared.sum(axis=0), self.entries.sum(axis=0))
        return dict(zip(KINDS, found.tolist(), strict=True))

    @property
    def overall(self):
        """Sparsity of all masks together."""
        return float(self.cleared.sum() / self.entries.sum())


def fraction(cleared, entries):
    """`cleared / entries`, NaN where there are no entries.

    Args:
        cleared, entries: int arrays of the same shape.
    """
    return np.where(entries > 0, cleared / np.maximum(entries, 1), np.nan)


def pictured(blocks):
    """The first, the middle and the last of the transformer's blocks, each once.

    Args:
        blocks: list of str; names that are not those of a transformer block are ignored.
    """
    inner = [block for block in blocks if block.startswith("block_")]
    return list(dict.fromkeys([inner[0], inner[len(inner) // 2], inner[-1]])) if inner else []


def _as_matrix(mask, kind):
    """A kernel's mask as `(inputs, outputs)`; the heads of attention are merged."""
    return mask.reshape((-1, mask.shape[-1]) if kind == "output" else (mask.shape[0], -1))

"""The values that pictures show, in RUN/inspection/KIND-STEP.npz: figures need no model.

`activations` holds `image` and `text`, `(blocks, D)`, see `activations.MeanActivations`; `probes`
accuracies, see `callbacks.FeatureProbes`; and `masks`, for each update of the masks of Algorithm 1:

step                  the step that made the update: masks as they are after that many steps
blocks, kinds         names of the rows and columns that follow
entries, cleared      `(blocks, kinds)`, the number of entries, and how many are cleared
sparsity              `(blocks, kinds)`, cleared / entries; NaN where there are no entries
bits/BLOCK/KIND       the kept entries of the kernels of some blocks, packed by `np.packbits`
shape/BLOCK/KIND      `(inputs, outputs)` of the kernel
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import tensorflow as tf

from keras_vitbert.model.shared_weights import KINDS, block_of, kind_of
from pipelines.command_line import one_line

if TYPE_CHECKING:
    from keras_vitbert.runs.run_folder import RunFolder

FOLDER, MASKS = "inspection", "masks"


def write_values(folder: RunFolder, kind: str, step: int, **arrays: Any) -> None:
    """Writes the arrays of a step; the same arrays give the same bytes."""
    if folder.writes:
        content = io.BytesIO()
        np.savez(content, step=np.int64(step), **arrays)
        tf.io.gfile.makedirs(os.path.join(folder.path, FOLDER))
        folder.write(f"{FOLDER}/{kind}-{step:08d}.npz", content.getvalue())


def stored_steps(path: str, kind: str) -> list[int]:
    """The steps of which the run at a path has values of a kind, ascending."""
    folder = os.path.join(path, FOLDER)
    names = tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []
    matches = (re.fullmatch(rf"{kind}-(\d{{8,}})\.npz", name) for name in names)
    return sorted(int(match[1]) for match in matches if match)


def read_values(
    path: str, kind: str, steps: list[int] | None = None
) -> dict[int, dict[str, np.ndarray]]:
    """A run's stored values of a kind: a step to arrays by name, ascending.

    `steps` are some of `stored_steps`, all by default.

    Raises:
        ValueError: a file is damaged.
    """
    values = {}
    for step in stored_steps(path, kind) if steps is None else steps:
        name = os.path.join(path, FOLDER, f"{kind}-{step:08d}.npz")
        try:
            with tf.io.gfile.GFile(name, "rb") as file:
                values[step] = dict(np.load(io.BytesIO(file.read())))
        except Exception as error:  # damaged zip files fail in many ways
            raise ValueError(f"{name}: cannot be read ({one_line(error)[:160]})") from error
    return values


@dataclasses.dataclass(frozen=True)
class MaskValues:
    """The masks after an update."""

    step: int  # that made the update
    blocks: list[str]
    entries: np.ndarray  # int64 `(blocks, kinds)`; the kinds are `KINDS`
    cleared: np.ndarray
    # By block and kind bool `(inputs, outputs)`, of the kernels of the first, the middle and the
    # last block; true where text updates.
    kept: dict[str, dict[str, np.ndarray]]

    @classmethod
    def from_masks(cls, step: int, masks: dict[str, np.ndarray]) -> Self:
        """The values for masks by their variables' paths."""
        blocks = list(dict.fromkeys(block_of(path) for path in masks))
        entries = np.zeros((len(blocks), len(KINDS)), np.int64)
        cleared = np.zeros_like(entries)
        kept = {block: {} for block in pictured(blocks)}
        for path, mask in masks.items():
            block, kind = block_of(path), kind_of(path)
            place = blocks.index(block), KINDS.index(kind)
            entries[place] += mask.size
            cleared[place] += mask.size - np.count_nonzero(mask)
            if block in kept and path.endswith("/kernel"):  # the heads of attention are merged
                shape = (-1, mask.shape[-1]) if kind == "output" else (mask.shape[0], -1)
                kept[block][kind] = mask.reshape(shape)
        return cls(step, blocks, entries, cleared, kept)

    @classmethod
    def read(cls, path: str, steps: list[int] | None = None) -> list[Self]:
        """The stored masks of the run at a path, the steps ascending; all, or some of them."""
        updates = []
        for step, arrays in read_values(path, MASKS, steps).items():
            kept = {}
            for name in arrays:
                if name.startswith("bits/"):
                    _, block, kind = name.split("/")
                    shape = arrays[f"shape/{block}/{kind}"]
                    bits = np.unpackbits(arrays[name])[: np.prod(shape)]
                    kept.setdefault(block, {})[kind] = bits.reshape(shape).astype(bool)
            blocks = arrays["blocks"].tolist()
            updates.append(cls(step, blocks, arrays["entries"], arrays["cleared"], kept))
        return updates

    def write(self, folder: RunFolder) -> None:
        """Writes the file of this update."""
        kernels = {}
        for block, kinds in self.kept.items():
            for kind, mask in kinds.items():
                kernels[f"bits/{block}/{kind}"] = np.packbits(mask)
                kernels[f"shape/{block}/{kind}"] = np.array(mask.shape)
        tables = {"entries": self.entries, "cleared": self.cleared, "sparsity": self.sparsity()}
        names = {"blocks": np.array(self.blocks), "kinds": np.array(KINDS)}
        write_values(folder, MASKS, self.step, **names, **tables, **kernels)

    def sparsity(self, axis: int | None = None) -> np.ndarray:
        """Cleared / all entries `(blocks, kinds)`, of kinds (axis 0) or of blocks (1); or NaN."""
        counts = [self.cleared, self.entries]
        cleared, entries = counts if axis is None else [table.sum(axis) for table in counts]
        return np.where(entries > 0, cleared / np.maximum(entries, 1), np.nan)

    def of_block(self, block: str) -> float:
        """The sparsity of a block."""
        return float(self.sparsity(1)[self.blocks.index(block)])

    @property
    def overall(self) -> float:
        """The sparsity of all masks together."""
        return float(self.cleared.sum() / self.entries.sum())


def pictured(blocks: list[str]) -> list[str]:
    """The first, the middle and the last of the transformer's blocks, each once."""
    inner = [block for block in blocks if block.startswith("block_")]
    return list(dict.fromkeys([inner[0], inner[len(inner) // 2], inner[-1]])) if inner else []

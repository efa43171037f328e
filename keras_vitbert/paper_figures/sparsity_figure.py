"""Figure 4: how much of every block, and of every kind of weight, the masks have cleared."""

import dataclasses

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from keras_vitbert.inspection.mask_strips import LABELS, MOST_UPDATES
from keras_vitbert.inspection.sheet import COLUMN, FAINT, Sheet, shades, spread
from keras_vitbert.model.shared_weights import KINDS

_LEFT, _RIGHT = 0.48, 0.08  # inches beside the panels
_PANEL, _STEP = 1.15, 1.65  # inches: a panel, and from its title to that of the next
_DASHED = {"color": FAINT, "linewidth": 0.8, "linestyle": (0, (4, 2))}
_BARS = 0.84  # fraction of the room of a group


@dataclasses.dataclass(frozen=True, eq=False)
class Sparsities:
    """Fractions of cleared entries, a row per update.

    Attributes:
        steps: list of int, ascending.
        blocks: list of str.
        of_blocks: `(updates, blocks)`.
        of_kinds: `(updates, kinds)`, the kinds are `KINDS`; NaN where unknown.
        overall: `(updates,)`, the same.
    """

    steps: list[int]
    blocks: list[str]
    of_blocks: np.ndarray
    of_kinds: np.ndarray
    overall: np.ndarray

    @classmethod
    def of(cls, updates, logged=None):
        """The sparsities of updates.

        Args:
            updates: list of `MaskValues`, the steps ascending.
            logged: dict of step to a dict of a block's name to its sparsity. It holds earlier
                updates, of which no more is known, and perhaps the first of `updates`, whose step
                is then that in the log.
        """
        blocks, steps = updates[0].blocks, [update.step for update in updates]
        of_blocks = [[update.of_blocks[block] for block in blocks] for update in updates]
        earlier = {}
        for step, values in (logged or {}).items():
            values = [values.get(block, np.nan) for block in blocks]
            if np.allclose(values, of_blocks[0], rtol=0, atol=1e-6):
                steps[0] = min(step, steps[0])
            elif step < steps[0]:
                earlier[step] = values
        unknown = [np.nan] * len(KINDS)
        of_kinds = [[update.of_kinds[kind] for kind in KINDS] for update in updates]
        return cls(
            [*earlier, *steps],
            blocks,
            np.array([*earlier.values(), *of_blocks]),
            np.array([unknown] * len(earlier) + of_kinds),
            np.array([np.nan] * len(earlier) + [update.overall for update in updates]),
        )


def draw(sparsities, name):
    """Two panels of bars: a group per block, and a group per kind of weight; a shade per update.

    Args:
        sparsities: `Sparsities`; of many updates, some are left out, not the first or the last.
        name: str, of the run.

    Returns:
        `Sheet`.
    """
    count = len(sparsities.steps)
    shown = spread(range(count), MOST_UPDATES)
    overall = sparsities.overall[-1]
    note = f"run: {name}"
    if len(shown) < count:
        note += f"\n{len(shown)} of {count} updates"
    if np.isnan(sparsities.overall[shown]).any():
        note += "\nfrom the log, which is written at the ends of epochs"
    rows = -(-(len(shown) + 1) // 3)
    sheet = Sheet(COLUMN, 2 * _STEP + 0.13 * rows + 0.1, "Sparsity of the gradient masks", note)
    top, width = sheet.top + 0.04, COLUMN - _LEFT - _RIGHT
    most = max(np.nanmax(sparsities.of_blocks), np.nanmax(sparsities.of_kinds))
    limit = min(1.0, max(0.1, 1.08 * most))

    colours = dict(zip(shown, shades(len(shown)), strict=True))
    blocks = [block.removeprefix("block_").replace("_", "\n") for block in sparsities.blocks]
    kinds = [label.replace(" ", "\n") for label in LABELS.values()]
    for title, names, values, place in (
        ("blocks", blocks, sparsities.of_blocks, 0),
        ("kinds of weight, over all blocks", kinds, sparsities.of_kinds, 1),
    ):
        axes = sheet.axes(_LEFT, top + place * _STEP + 0.16, width, _PANEL, label=title.split()[0])
        axes.set_title(title)
        known = [update for update in shown if not np.isnan(values[update]).all()]
        bar = _BARS / max(len(known), 2)
        for position, update in enumerate(known):
            centres = np.arange(len(names)) + (position - (len(known) - 1) / 2) * bar
            axes.bar(centres, values[update], bar, color=colours[update], linewidth=0)
        if not np.isnan(overall):
            axes.axhline(overall, zorder=0, **_DASHED)
        axes.set_xticks(range(len(names)), names)
        axes.tick_params(axis="x", length=0)
        axes.set(xlim=(-0.6, len(names) - 0.4), ylim=(0, limit), ylabel="cleared entries")
        axes.yaxis.set_major_formatter(lambda value, place: f"{value:.0%}")
        axes.locator_params(axis="y", nbins=5)
        if len(names) > 14:  # every name would not fit
            for place, label in enumerate(axes.get_xticklabels()[:-1]):
                label.set_visible(place % 3 == 0)
    entries = [
        Patch(color=colour, label=f"step {sparsities.steps[update]:,}")
        for update, colour in colours.items()
    ]
    if not np.isnan(overall):
        entries.append(Line2D([], [], label=f"all masks at the end: {overall:.1%}", **_DASHED))
    sheet.legend(top + 2 * _STEP, entries, columns=3)
    return sheet

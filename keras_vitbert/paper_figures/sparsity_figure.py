"""Figure 4: how much of every block, and of every kind of weight, the masks have cleared."""

import dataclasses

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from keras_vitbert.model.shared_weights import KINDS
from keras_vitbert.paper_figures.style import (
    COLUMN,
    EDGE,
    FAINT,
    SMALL_SIZE,
    Sheet,
    header_height,
    shades,
    shortened,
    spread,
    thousands,
)

MOST_UPDATES = 8  # bars of a group
_LEFT, _RIGHT = 0.48, 0.08  # inches beside the panels
_PANEL, _STEP = 1.15, 1.65  # inches: a panel, and from its title to that of the next
_DASHED = {"color": FAINT, "linewidth": 0.8, "linestyle": (0, (4, 2))}
_BARS = 0.84  # of the room of a group
_LINES = {"final_norm": "final\nnorm", "mlp_in": "MLP\nin", "mlp_out": "MLP\nout"}


@dataclasses.dataclass(frozen=True, eq=False)
class Sparsities:
    """Fractions of cleared entries, an update a row.

    Attributes:
        steps: list of int, ascending.
        blocks: list of str.
        of_blocks: `(updates, blocks)`.
        of_kinds: `(updates, kinds)`, the kinds are `KINDS`; not a number where it is not known.
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
            logged: dict of step to a dict of a block's name to its sparsity, of which no more is
                known: of updates before these, and perhaps of the first of these, whose step is
                then that in the log.
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

    def of_updates(self, places):
        """The same of some updates."""
        return Sparsities(
            [self.steps[place] for place in places],
            self.blocks,
            *(values[places] for values in (self.of_blocks, self.of_kinds, self.overall)),
        )


def draw(sparsities, name):
    """Two panels of bars: a group a block, and a group a kind of weight; a shade an update.

    Args:
        sparsities: `Sparsities`; of many updates some are left out, not the first or the last.
        name: str, of the run.

    Returns:
        `matplotlib.figure.Figure`.
    """
    count = len(sparsities.steps)
    sparsities = sparsities.of_updates(spread(range(count), MOST_UPDATES))
    shown = len(sparsities.steps)
    note = shortened(f"run: {name}", COLUMN - 2 * EDGE)
    if shown < count:
        note += f"\n{shown} of {count} updates"
    if np.isnan(sparsities.overall).any():
        note += "\nfrom the log, which is written at the ends of epochs"
    rows = -(-(shown + 1) // 3)
    height = header_height(note) + 2 * _STEP + 0.13 * rows + 0.1
    sheet = Sheet(COLUMN, height, "Sparsity of the gradient masks", note)
    top, width = sheet.top + 0.04, COLUMN - _LEFT - _RIGHT
    most = max(np.nanmax(sparsities.of_blocks), np.nanmax(sparsities.of_kinds))
    limit = min(1.0, max(0.1, 1.08 * most))

    colours = shades(shown)
    blocks = [block.removeprefix("block_") for block in sparsities.blocks]
    for title, names, values, place in (
        ("blocks", blocks, sparsities.of_blocks, 0),
        ("kinds of weight, over all blocks", KINDS, sparsities.of_kinds, 1),
    ):
        axes = sheet.axes(_LEFT, top + place * _STEP + 0.16, width, _PANEL, label=title.split()[0])
        axes.set_title(title, loc="left", pad=3)
        known = [update for update in range(shown) if not np.isnan(values[update]).all()]
        bar = _BARS / max(len(known), 2)
        for position, update in enumerate(known):
            centres = np.arange(len(names)) + (position - (len(known) - 1) / 2) * bar
            label = f"step {sparsities.steps[update]}"
            axes.bar(centres, values[update], bar, color=colours[update], linewidth=0, label=label)
        if not np.isnan(sparsities.overall[-1]):
            axes.axhline(sparsities.overall[-1], zorder=0, **_DASHED)
        axes.set_xticks(range(len(names)), [_LINES.get(name, name) for name in names])
        axes.tick_params(axis="x", length=0)
        axes.set(xlim=(-0.6, len(names) - 0.4), ylim=(0, limit), ylabel="cleared entries")
        axes.yaxis.set_major_formatter(lambda value, place: f"{value:.0%}")
        axes.locator_params(axis="y", nbins=5)
        axes.spines[["top", "right"]].set_visible(False)
        if len(names) > 14:  # every name would not fit
            for place, label in enumerate(axes.get_xticklabels()[:-1]):
                label.set_visible(place % 3 == 0)
    _legend(sheet, top + 2 * _STEP, sparsities)
    return sheet.figure


def _legend(sheet, top, sparsities):
    colours = shades(len(sparsities.steps))
    entries = [
        Patch(color=colour, label=f"step {thousands(step)}")
        for step, colour in zip(sparsities.steps, colours, strict=True)
    ]
    if not np.isnan(sparsities.overall[-1]):
        label = f"all masks at the end: {sparsities.overall[-1]:.1%}"
        entries.append(Line2D([], [], label=label, **_DASHED))
    sheet.figure.legend(
        handles=entries,
        loc="upper center",
        bbox_to_anchor=(0.5, 1 - top / sheet.height),
        ncols=3,
        fontsize=SMALL_SIZE,
        columnspacing=1.2,
        handlelength=1.4,
        handletextpad=0.5,
        borderaxespad=0,
        borderpad=0,
    )

"""What all figures share, and TensorBoard's figures of a run, by matplotlib.

Figures have no screen and no state outside themselves; the same values give the same bytes.
"""

import contextlib
import gc
import io
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import MaxNLocator

from keras_vitbert.inspection.activations import (
    TOP,
    by_preference,
    overlap,
    rank_correlation,
    scale_top,
)
from keras_vitbert.inspection.values import MaskValues
from keras_vitbert.model.shared_weights import KINDS

COLUMN, PAGE = 3.3, 6.9  # inches, the widths of a paper's column and of its page
PRINT, SCREEN = 300, 144  # dots per inch of figures, and of TensorBoard's pictures
FAINT, UNKNOWN, CHOSEN = "#9a9a9a", "#a0a0a0", "#ea580c"
BLUE, ORANGE = "#8EC3E6", "#F6CF85"  # letters stand out on them; distinct to the colour-blind
DASHED = {"color": FAINT, "linewidth": 0.8, "linestyle": (0, (4, 2))}
# Lightness rises evenly, also for colour-blind readers; grey where a value is not finite.
MAP = matplotlib.colormaps["viridis"].with_extremes(bad=UNKNOWN)
LABELS = {kind: kind.replace("mlp_", "MLP ") for kind in KINDS}
MOST_UPDATES = 8  # of the masks in one figure
_CELLS = 64  # most cells along the hidden state of a mask
_FROM_UNITS = ("output", "mlp_out")  # their kernels go from the layer's units to the hidden state
_CONFLICT = {
    "cosine": "cosine",
    "norm_ratio": "norm, text / image",
    "opposite_sign": "entries of opposite sign (0.50 by chance)",
}
_METADATA = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
_SETTINGS = {
    "axes.axisbelow": True,
    "axes.linewidth": 0.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "figure.titlesize": 8,
    "figure.titleweight": "bold",
    "figure.labelsize": 6.5,
    "font.size": 6.5,
    "legend.columnspacing": 1.2,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.handletextpad": 0.4,
    "lines.linewidth": 1,
    "lines.markersize": 3,
    "svg.fonttype": "none",  # letters stay letters
    "svg.hashsalt": "keras_vitbert",
    "text.parse_math": False,  # names may contain a $
    "xtick.major.size": 2,
    "xtick.major.width": 0.5,
    "ytick.major.size": 2,
    "ytick.major.width": 0.5,
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """A context in which figures are made, drawn and written, whatever the user's settings."""
    # A figure is full of reference cycles. Those that survive two garbage collections stay until
    # there are a quarter more objects, beside the half a million of TensorFlow: hundreds of
    # megabytes. So Python collects at the end, while all figures are young, which takes a ms.
    collects = gc.isenabled()
    gc.disable()
    try:
        with matplotlib.style.context(_SETTINGS, after_reset=True), warnings.catch_warnings():
            # A letter that the font lacks is drawn as a box; a warning for each helps nobody.
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            yield
    finally:
        gc.collect(1)
        if collects:
            gc.enable()


def new_figure(
    width: float, height: float, title: str, note: str = "", dpi: int = SCREEN
) -> Figure:
    """A figure of a size in inches with a bold title, and a note below everything."""
    figure = Figure((width, height), dpi=dpi, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left")
    if note:
        lines = (textwrap.fill(line, int(17 * width)) for line in note.splitlines())
        figure.supxlabel("\n".join(lines), x=0.01, ha="left")
    return figure


def picture(figure: Figure) -> np.ndarray:
    """Draws a figure: uint8 `(height, width, 3)`, as `tf.summary.image` takes it."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def encoded(figure: Figure, file_format: str, description: str | None = None) -> bytes:
    """The content of a `png` or `svg` file, with a description in its metadata."""
    content = io.BytesIO()
    metadata = {**_METADATA[file_format], "Description": description}
    # The layout's last digits vary, and SVG has names that depend on them.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, width, height = np.round(axes.get_position(original=True).bounds, 6)
        axes.set_position((left, bottom, width, height))
    figure.savefig(content, format=file_format, dpi=figure.dpi, metadata=metadata)
    return content.getvalue()


def shades(count: int) -> np.ndarray:
    """RGBA `(count, 4)` from dark to light; the lightest still stands out on white."""
    return MAP(np.linspace(0, 0.88, count) if count > 1 else [0.4])


def shortened(text: str, letters: int) -> str:
    """A text without its middle, if it has more letters."""
    half = letters // 2
    return text if len(text) <= letters else f"{text[:half]}…{text[half + 1 - letters :]}"


def spread(items: Sequence, most: int) -> list:
    """At most `most` of the items, evenly spread, including the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[place] for place in np.linspace(0, len(items) - 1, most).round().astype(int)]


def colour_bar(figure: FigureBase, axes: Any, label: str, **options: Any) -> None:
    """Adds a colour scale from 0 to 1 below axes."""
    options = {"location": "bottom", "shrink": 0.6, "aspect": 40, "ticks": [0, 0.5, 1], **options}
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), MAP), ax=axes, label=label, **options)
    bar.outline.set_visible(False)


def bare(axes: Axes) -> None:
    """Removes ticks and frame."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def beside(axes: Axes, y: float, text: str, points: float) -> None:
    """A text at the right of axes that ends at a distance from them."""
    place = {"xytext": (points, 0), "textcoords": "offset points", "ha": "right", "va": "center"}
    axes.annotate(text, (1, y), xycoords=axes.get_yaxis_transform(), **place)


# --- activations ---------------------------------------------------------------------------------


def draw_activations(
    axes: Axes, blocks: dict[str, tuple[np.ndarray, np.ndarray]], measured: bool = False
) -> None:
    """For each block, by name, a row of its units `(D,)` for images above one for text.

    Beside them stands the end of the block's own scale and, if `measured`, what they have in
    common.
    """
    # Activations grow with training and from block to block: one scale for all would show only
    # the last block.
    scales = [scale_top(pair) for pair in blocks.values()]
    cells = [np.stack(pair) / (top or 1) for pair, top in zip(blocks.values(), scales, strict=True)]
    # Six rows of the picture for each modality, which no smoothing mixes, and a white gap.
    cells = [np.pad(pair.repeat(6, 0), [(0, 3), (0, 0)], constant_values=-1) for pair in cells]
    colours = MAP.with_extremes(under="white", bad=UNKNOWN)
    axes.imshow(np.concatenate(cells)[:-3], colours, aspect="auto", vmin=0, vmax=1)
    bare(axes)
    axes.tick_params(length=0)
    begins = 15 * np.arange(len(blocks))
    names = [label for name in blocks for label in (f"{name}  images", "text")]
    axes.set_yticks(np.stack([begins + 2.5, begins + 8.5], 1).ravel(), names)
    columns = {"scale to": [f"{top:.3g}" for top in scales]}
    if measured:
        columns["overlap"] = [f"{overlap(*pair):.2f}" for pair in blocks.values()]
        columns["correlation"] = [f"{rank_correlation(*pair):.2f}" for pair in blocks.values()]
    for number, (head, texts) in enumerate(columns.items(), 1):
        for middle, text in zip([-4, *(begins + 5.5)], [head, *texts], strict=True):
            beside(axes, middle, text, 40 * number)


def activation_figures(image: np.ndarray, text: np.ndarray, step: int) -> dict[str, Figure]:
    """TensorBoard's figures of mean absolute activations `(blocks, D)` by tag.

    One has all blocks; the first, middle and last block have one each, with sorted units, too.
    """
    rows = {f"block {n}": pair for n, pair in enumerate(zip(image, text, strict=True))}
    figures = {"activations/overview": _activation_figure(rows, f"all blocks, step {step:,}")}
    for block in spread(range(len(image)), 3):
        i, t = image[block], text[block]
        order = by_preference(i, t)
        rows = {"by index": (i, t), "sorted": (i[order], t[order])}
        figure = _activation_figure(rows, f"block {block}, step {step:,}")
        prefer = f"sorted: ◂ {np.sum(i > t)} prefer images, {np.sum(i < t)} prefer text ▸"
        figure.axes[0].set_xlabel(prefer)
        figures[f"activations/block_{block}"] = figure
    return figures


def _activation_figure(rows: dict[str, tuple[np.ndarray, np.ndarray]], title: str) -> Figure:
    note = (
        f"overlap: the share of the top {TOP:.0%} of the units in common (by chance {TOP:.2f}); "
        "correlation: of the ranks"
    )
    figure = new_figure(8, 1.1 + 0.36 * len(rows), title, note)
    axes = figure.subplots()
    draw_activations(axes, rows, measured=True)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("unit")
    colour_bar(figure, axes, "mean absolute activation / scale")
    return figure


# --- masks ---------------------------------------------------------------------------------------


def averaged(matrix: np.ndarray, factor: int) -> np.ndarray:
    """Means over squares of `factor * factor` entries; squares at the ends may be smaller."""
    for axis, count in enumerate(matrix.shape):
        begins = np.arange(0, count, factor)
        sizes = np.diff(begins, append=count)
        sums = np.add.reduceat(matrix, begins, axis, dtype=np.float32)
        matrix = sums / np.expand_dims(sizes, 1 - axis)
    return matrix


def mask_figure(
    updates: list[MaskValues],
    blocks: list[str],
    width: float,
    dpi: int,
    note: str = "",
    count: int | None = None,
) -> Figure:
    """The masks of blocks: the six matrices side by side, a row per update, at most `MOST_UPDATES`.

    The width is in inches; `count` is the number of all updates, if these are only some.
    """
    count, updates = count or len(updates), spread(updates, MOST_UPDATES)
    kept = updates[-1].kept[blocks[0]]
    kinds = [kind for kind in KINDS if kind in kept]
    factor = -(-kept[kinds[0]].shape[0] // _CELLS)  # of the query: hidden state to units
    cell = f"the mean of {factor} × {factor} entries" if factor > 1 else "an entry"
    note += f"\n{len(updates)} of {count} updates" if len(updates) < count else ""
    note += f"\na cell: {cell}\ndown: the hidden state, across: the layer's units"
    # Beside the matrices are an inch of labels; all have as many rows as the query.
    row = (width - 1) * kept[kinds[0]].shape[0] ** 2 / sum(kept[kind].size for kind in kinds)
    height = 1.1 + len(blocks) * (0.4 + row * len(updates))
    figure = new_figure(width, height, "Gradient masks", note.strip(), dpi)
    panels = figure.subplots(len(blocks), squeeze=False)[:, 0]
    for axes, block in zip(panels, blocks, strict=True):
        masks = [update.kept[block] for update in updates]
        _draw_masks(axes, masks, kinds, factor, narrow=width < PAGE)
        axes.set_title(block.replace("_", " "), weight="bold")
        rows = axes.get_yticks()
        axes.set_yticks(rows, [f"step {update.step:,}" for update in updates])
        for row, update in zip(rows, updates, strict=True):
            beside(axes, row, f"{update.of_block(block):.1%}", 28)
    label = "cleared entries; at the right those of the block"
    colour_bar(figure, panels, label, format="{x:.0%}")
    return figure


def _draw_masks(
    axes: Axes, masks: list[dict[str, np.ndarray]], kinds: list[str], factor: int, narrow: bool
) -> None:
    """An image with the matrices of some masks; ticks are in the middle of its rows and columns."""
    gap = 1 + _CELLS // 16

    def matrix(mask: dict[str, np.ndarray], kind: str) -> np.ndarray:
        means = averaged(~mask[kind], factor)
        means = means.T if kind in _FROM_UNITS else means
        return np.pad(means, [(0, gap), (0, gap)], constant_values=-1)

    panels = [np.hstack([matrix(mask, kind) for kind in kinds]) for mask in masks]
    axes.imshow(np.vstack(panels)[:-gap, :-gap], MAP.with_extremes(under="white"), vmin=0, vmax=1)
    bare(axes)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    widths = [matrix(masks[0], kind).shape[1] for kind in kinds]
    ends = np.cumsum([0, *widths])
    labels = [
        kind[0].upper() if narrow and width - gap < 2 * _CELLS else LABELS[kind]
        for kind, width in zip(kinds, widths, strict=True)
    ]
    axes.set_xticks((ends[:-1] + ends[1:] - gap - 1) / 2, labels)
    rows = len(panels[0])
    axes.set_yticks(np.arange(len(panels)) * rows + (rows - gap - 1) / 2)


def sparsity_table(values: MaskValues) -> Figure:
    """The sparsities of an update: a row per block, a column per kind of weight, and of all."""
    of_blocks, of_kinds = values.sparsity(1)[:, None], values.sparsity(0)
    table = np.block([[values.sparsity(), of_blocks], [of_kinds, np.array(values.overall)]])
    blocks = [*(block.replace("_", " ") for block in values.blocks), "all"]
    texts = [["" if np.isnan(x) else f"{x:.1%}" for x in row] for row in table]
    note = "A cleared entry is updated by the image gradient, any other by the text gradient."
    title = f"Sparsity of the gradient masks, step {values.step:,}"
    figure = new_figure(4.8, 0.9 + 0.2 * len(blocks), title, note)
    axes = figure.subplots()
    draw_table(axes, table, texts, blocks, [*LABELS.values(), "all"])
    colour_bar(figure, axes, "cleared entries", format="{x:.0%}")
    return figure


def draw_table(
    axes: Axes,
    shares: np.ndarray,
    texts: list[list[str]],
    rows: list[str],
    columns: list[str],
    size: float = 6.5,
) -> None:
    """Cells `(rows, columns)` in the colours of shares in [0, 1], with a text in each."""
    axes.imshow(shares, MAP, aspect="auto", vmin=0, vmax=1)
    axes.spines[:].set_visible(False)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(range(len(columns)), columns)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    for (row, column), text in np.ndenumerate(texts):
        colour = "white" if shares[row, column] < 0.5 else "black"
        if text:
            axes.text(column, row, text, ha="center", va="center", color=colour, size=size)


# --- gradients -----------------------------------------------------------------------------------


def conflict_figure(values: dict[str, dict[str, float]], step: int) -> Figure:
    """Bars of `keras_vitbert.training.gradient_conflict.GradientConflict.values` in every block."""
    names = [name.replace("_", " ") for name in values]
    title = f"Both gradients by block, step {step:,}"
    figure = new_figure(7.5, 0.5 + 0.18 * len(names), title)
    panels = figure.subplots(1, len(_CONFLICT), sharey=True)
    for axes, (key, head) in zip(panels, _CONFLICT.items(), strict=True):
        numbers = np.array([of_block[key] for of_block in values.values()])
        lengths = np.where(np.isfinite(numbers), numbers, 0)
        colours = [ORANGE if number < 0 else BLUE for number in numbers]
        bars = axes.barh(names, lengths, color=colours)
        axes.bar_label(bars, [f"{number:.3f}" for number in numbers], padding=3)
        axes.axvline(0, color=FAINT, linewidth=0.5)
        axes.set(title=head, xticks=[])
        axes.margins(x=0.25)
    panels[0].invert_yaxis()
    return figure

"""The paper's Figures 3, 4 and 6 from values; Figure 5 is `inspection.drawing.mask_figure`."""

import textwrap

import numpy as np
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter

from keras_vitbert.extras.paper_figures.examples import Answer, Example
from keras_vitbert.inspection.activations import TOP, by_preference, co_activation
from keras_vitbert.inspection.drawing import (
    BLUE,
    COLUMN,
    DASHED,
    LABELS,
    MOST_UPDATES,
    ORANGE,
    PAGE,
    PRINT,
    bare,
    colour_bar,
    draw_activations,
    new_figure,
    shades,
    shortened,
    spread,
)
from keras_vitbert.inspection.values import MaskValues
from keras_vitbert.model.shared_weights import KINDS
from pipelines.text.wordpiece import SEP

_MARKERS = "osD^vP*X"
_CURVES = {
    "overlap": (f"overlap of the top {TOP:.0%}", TOP),
    "correlation": ("rank correlation", 0.0),
}
_LETTERS = 140  # of a line across a page

Activations = dict[int, tuple[np.ndarray, np.ndarray]]
Line = list[tuple[float, str, dict[str, str]]]  # texts at places from 0 to 1, with their style


def chosen_blocks(text: str, count: int) -> list[int]:
    """Indices of the blocks that a text such as `0,5,11` or `all` names, of `count` blocks.

    An empty one names the first, the middle and the last; no such block is a `ValueError`.
    """
    if not text:
        return sorted({0, count // 2, count - 1})
    if text == "all":
        return list(range(count))
    known = {str(number): number for number in range(count)}
    chosen = {part.strip() for part in text.split(",")}
    if not chosen <= known.keys():
        raise ValueError(f"blocks={text}: give numbers from 0 to {count - 1}, or all")
    return sorted(known[part] for part in chosen)


def activation_figure(activations: Activations, name: str, blocks: str = "") -> Figure:
    """Figure 3: which units respond to images and which to text, and how far they become the same.

    Heat maps of `chosen_blocks` at the first, the middle and the last step, and curves below, of
    activations (image, text), `(blocks, D)`, by step. The units of a block have one order at all
    steps: from those that prefer images to those that prefer text at the last step.
    """
    steps = spread(sorted(activations), 3)
    last = activations[steps[-1]]
    count, units = last[0].shape
    chosen = chosen_blocks(blocks, count)
    orders = {block: by_preference(last[0][block], last[1][block]) for block in chosen}
    heights = [0.3 + 0.32 * len(chosen)] * len(steps)
    legend = 0.13 * -(-count // 4) if len(activations) > 1 else 0
    note = f"run: {name}\ndashed: by chance"
    height = sum(heights) + legend + 2.9
    figure = new_figure(COLUMN, height, "What hidden units respond to", note, PRINT)
    ratios = [sum(heights) + 0.9, legend + 1.5]
    upper, lower = figure.subfigures(2, 1, height_ratios=ratios, squeeze=False)[:, 0]
    maps = upper.subplots(len(steps), squeeze=False)[:, 0]
    for axes, step in zip(maps, steps, strict=True):
        image, text = activations[step]
        shown = {f"block {b}": (image[b][order], text[b][order]) for b, order in orders.items()}
        draw_activations(axes, shown)
        axes.set_title(f"step {step:,}")
    order = f"{units} units, in the order of step {steps[-1]:,}"
    maps[-1].set_xlabel(f"◂ prefer images                prefer text ▸\n{order}")
    colour_bar(upper, maps, "mean absolute activation / scale")
    _draw_curves(lower, activations)
    return figure


def _draw_curves(figure: FigureBase, activations: Activations) -> None:
    """A line per block over the steps; for one step, a point per block."""
    steps = sorted(activations)
    shared = [co_activation(*activations[step]) for step in steps]
    panels = figure.subplots(1, len(_CURVES))
    for axes, (name, (title, by_chance)) in zip(panels, _CURVES.items(), strict=True):
        values = np.stack([numbers[name] for numbers in shared])
        count = values.shape[1]
        axes.axhline(by_chance, **DASHED)
        if len(steps) == 1:
            axes.plot(range(count), values[0], "o-", color=shades(1)[0])
            axes.set(xlabel=f"block, at step {steps[0]:,}", xticks=range(0, count, -(-count // 6)))
        else:
            for block, colour in enumerate(shades(count)):
                marker = _MARKERS[block] if count <= len(_MARKERS) else None
                label = f"block {block}"
                axes.plot(steps, values[:, block], marker=marker, color=colour, label=label)
            axes.set_xlabel("step")
            axes.locator_params(axis="x", nbins=4)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set(title=title, label=name, ylim=(min(0.0, values.min()) - 0.05, 1.05))
    if len(steps) > 1:
        handles = panels[-1].get_lines()[1:]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)


def sparsity_figure(updates: list[MaskValues], name: str) -> Figure:
    """Figure 4: how much of every block, and of every kind of weight, the masks have cleared.

    Two panels of bars, a shade per update; of many updates, some are left out, not the first or
    the last.
    """
    shown = spread(updates, MOST_UPDATES)
    note = f"run: {shortened(name, 50)}"
    if len(shown) < len(updates):
        note += f"\n{len(shown)} of {len(updates)} updates"
    height = 3.6 + 0.13 * (len(shown) // 3 + 1)
    figure = new_figure(COLUMN, height, "Sparsity of the gradient masks", dpi=PRINT)
    blocks = [block.removeprefix("block_").replace("_", "\n") for block in updates[0].blocks]
    kinds = [LABELS[kind].replace(" ", "\n") for kind in KINDS]
    titles = ("blocks", blocks), ("kinds of weight, over all blocks", kinds)
    width, colours = 0.84 / max(len(shown), 2), shades(len(shown))
    panels = zip(figure.subplots(2, sharey=True), titles, (1, 0), strict=True)
    for axes, (title, names), axis in panels:
        for number, (update, colour) in enumerate(zip(shown, colours, strict=True)):
            centres = np.arange(len(names)) + (number - (len(shown) - 1) / 2) * width
            axes.bar(centres, update.sparsity(axis), width, color=colour, linewidth=0)
        axes.axhline(updates[-1].overall, zorder=0, **DASHED)
        step = 3 if len(names) > 14 else 1  # every name would not fit
        axes.set_xticks(range(0, len(names), step), names[::step])
        axes.tick_params(axis="x", length=0)
        axes.set(title=title, label=title.split()[0], ylabel="cleared entries")
        axes.yaxis.set_major_formatter("{x:.0%}")
    pairs = zip(shown, colours, strict=True)
    patches = [Patch(color=colour, label=f"step {update.step:,}") for update, colour in pairs]
    label = f"all masks at the end: {updates[-1].overall:.1%}"
    handles = [*patches, Line2D([], [], label=label, **DASHED)]
    options = {"title": note, "alignment": "left", "ncols": 3}
    figure.legend(handles=handles, loc="outside lower left", **options)
    return figure


def qualitative_figure(
    images: list[Example], texts: list[Example], names: list[str], split: str = "validation"
) -> Figure:
    """Figure 6: held-out images and texts, and what the runs of some names answer."""
    runs = "run: " if len(names) == 1 else "runs: "
    note = runs + ", ".join(names)
    image_runs, text_runs = (
        [name for name in names if some and name in some[0].answers] for some in (images, texts)
    )
    columns = max(1, min(3, 6 // (1 + len(image_runs))))
    rows = -(-len(images) // columns)
    lines = [line for example in texts for line in _text_lines(example, text_runs)]
    # Inches of the images and of the texts.
    heights = [1.1 * rows + 0.5] * bool(images) + [0.125 * len(lines) + 0.3] * bool(texts)
    width = max(PAGE, 0.7 + 1.15 * len(image_runs))
    title = f"Examples of {split}, and answers"
    figure = new_figure(width, sum(heights) + 0.4, title, note, PRINT)
    panels = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    if images:
        _draw_images(panels[0], images, image_runs, rows, columns)
    if texts:
        _draw_texts(panels[-1], texts[0].asked, lines)
    return figure


def _draw_images(
    figure: FigureBase, images: list[Example], runs: list[str], rows: int, columns: int
) -> None:
    """Each image with its true class, and bars of the likeliest classes for each run."""
    ratios = [1, *[1.5] * len(runs)] * columns
    grid = figure.subplots(rows, len(ratios), squeeze=False, width_ratios=ratios).ravel()
    panels = np.split(grid, rows * columns)
    for unused in panels[len(images) :]:
        for axes in unused:
            axes.set_axis_off()
    for (seen, *bars), example in zip(panels, images, strict=False):
        seen.imshow(example.image)
        bare(seen)
        seen.set_anchor("N")
        title = f"{shortened(example.truth[0], 20)} (example {example.number})"
        seen.set_title(title + "\n" * (len(runs) > 1), weight="bold")
        for axes, run in zip(bars, runs, strict=True):
            [answers] = example.answers[run]
            colours = [BLUE if answer.is_true else ORANGE for answer in answers]
            axes.barh(range(len(answers)), [a.probability for a in answers], 0.9, color=colours)
            axes.set(xlim=(0, 1), ylim=(len(answers) - 0.5, -0.5), xticks=[], yticks=[])
            axes.spines["bottom"].set_visible(False)
            axes.set(label=f"image {example.number}, {run}")
            axes.set_title(shortened(run, 16) if len(runs) > 1 else "", loc="left")
            for place, answer in enumerate(answers):
                axes.text(0.03, place, _shown(answer, 12), va="center_baseline")
    handles = [Patch(color=BLUE, label="the true class ✓"), Patch(color=ORANGE, label="another")]
    options = {"title": "above an image its class, beside it the likeliest classes"}
    figure.legend(handles=handles, loc="outside lower left", ncols=2, alignment="left", **options)


def _text_lines(example: Example, runs: list[str]) -> list[Line]:
    """The lines of a text and of the answers to it."""
    words = [
        f"[{gap}\u00a0{word.strip('[]')}]" if gap else "|" if word == SEP else word
        for word, gap in example.words
    ]
    text = " ".join([f"Example {example.number}:", *words])
    lines: list[Line] = [[(0, line, {})] for line in textwrap.wrap(text, _LETTERS)]
    places = np.linspace(0.2, 1, len(runs) + 1)[:-1].tolist()
    letters = int(0.8 * _LETTERS / len(runs)) - 2
    heads = [shortened(run, letters) for run in runs] if len(runs) > 1 else ["answers"]
    italic = {"style": "italic"}
    pairs = zip(places, heads, strict=True)
    lines.append([(0.03, f"true {example.asked}", italic), *((*p, italic) for p in pairs)])
    for gap, true in enumerate(example.truth):
        number = f"{gap + 1}" if example.asked == "word" else ""
        bold = {"weight": "bold"}
        line: Line = [(0, number, bold), (0.03, shortened(true, 18), bold)]
        for place, run in zip(places, runs, strict=True):
            line.append((place, _answer_line(example.answers[run][gap], letters), {}))
        lines.append(line)
    return [*lines, []]


def _draw_texts(figure: FigureBase, asked: str, lines: list[Line]) -> None:
    axes = figure.subplots()
    bare(axes)
    kind = "texts, and below each its class and what is predicted"
    if asked == "word":
        kind = "masked words: in brackets what the network sees, below what it predicts"
    axes.set_title(kind, style="italic")
    axes.set(xlim=(0, 1), ylim=(len(lines), 0))
    for number, line in enumerate(lines):
        for place, text, options in line:
            axes.text(place, number + 0.8, text, options, va="baseline")


def _answer_line(answers: list[Answer], letters: int) -> str:
    """As many answers with their probabilities as fit, at least one."""
    line = _shown(answers[0], letters - 8)
    for answer in answers[1:]:
        longer = f"{line} · {_shown(answer, letters)}"
        if len(longer) > letters:
            break
        line = longer
    return line


def _shown(answer: Answer, letters: int) -> str:
    """An answer with its probability, and a tick after the true one."""
    percent = f"{answer.probability:.0%}" if answer.probability >= 0.005 else "<1%"
    return f"{shortened(answer.name, letters)} {percent}{' ✓' if answer.is_true else ''}"

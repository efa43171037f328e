"""Figure 6: a page of validation images and masked sentences with the answers of some runs."""

from keras_vitbert.paper_figures.style import (
    BLUE,
    EDGE,
    FAINT,
    ORANGE,
    PAGE,
    SMALL_SIZE,
    TEXT_SIZE,
    Sheet,
    header_height,
    shortened,
    width_of,
    wrapped,
)
from pipelines.text.wordpiece import SEP

_IMAGE, _UNIT = 0.72, 0.98  # inches: an image, and a row of images with the line above it
_NARROWEST = 1.15  # inches of a panel of bars
_BAR = 0.144  # inches down from one bar to the next
_LINE = 0.12  # inches of a line of letters
_TRUTH = 1.0  # inches of a true word


def draw(images, texts, names):
    """A page of examples: of every image bars a run, of every gap in a text a line of answers.

    Args:
        images: list of `ImageExample`.
        texts: list of `TextExample`.
        names: list of str, the runs that have answers to some of these.

    Returns:
        `matplotlib.figure.Figure`.
    """
    image_runs = [name for name in names if images and name in images[0].answers]
    text_runs = [name for name in names if texts and name in texts[0].answers]
    note = "run: " if len(names) == 1 else "runs: "
    note = "\n".join(wrapped((note + ", ".join(names)).split(" "), PAGE - 2 * EDGE))
    width = max(PAGE, 2 * EDGE + _IMAGE + _NARROWEST * len(image_runs))
    units, unit_width = _units(width, len(image_runs))
    rows = -(-len(images) // units)
    one_run = 0.14 if len(image_runs) > 1 else 0
    height = header_height(note) + 0.1
    height += 0.2 + rows * (_UNIT + one_run) + 0.24 if images else 0
    height += 0.2 + sum(map(_text_height, texts)) + 0.02 if texts else 0
    sheet = Sheet(width, height, "Validation examples and answers", note)
    top = sheet.top + 0.04
    if images:
        kind = "images: true class above, probability of the likeliest classes beside"
        _heading(sheet, top, kind)
        top += 0.2
        for place, example in enumerate(images):
            left = EDGE + place % units * unit_width
            _image(sheet, left, top, unit_width, example, image_runs)
            top += (_UNIT + one_run) * (place % units == units - 1 or example is images[-1])
        top = _colour_key(sheet, top)
    if texts:
        _heading(sheet, top, "masked words: in brackets what the network sees, below what it says")
        top += 0.2
        for example in texts:
            _text(sheet, top, example, text_runs)
            top += _text_height(example)
    return sheet.figure


def _units(width, runs):
    """How many examples stand beside each other, and how many inches each of them has."""
    room = width - 2 * EDGE
    units = max(1, min(3, int(room // (_IMAGE + 1.25 * runs + 0.1))))
    return units, room / units


def _heading(sheet, top, text):
    sheet.text(EDGE, top, text, size=TEXT_SIZE, style="italic")


def _image(sheet, left, top, width, example, runs):
    """An image and, for each run, bars of its likeliest classes."""
    label = shortened(f"#{example.number}  {example.label}", width - 0.1, weight="bold")
    sheet.line(left, top + 0.09, label, weight="bold")
    top += 0.14 + (0.14 if len(runs) > 1 else 0)
    axes = sheet.axes(left, top, _IMAGE, _IMAGE, label=f"image {example.number}")
    axes.imshow(example.image, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    panel = (width - _IMAGE - 0.16) / len(runs)
    for place, run in enumerate(runs):
        answers = example.answers[run]
        begin = left + _IMAGE + 0.08 + place * panel
        if len(runs) > 1:
            sheet.line(begin, top - 0.05, shortened(run, panel - 0.1))
        down = _BAR * len(answers.names)
        axes = sheet.axes(begin, top, panel - 0.1, down, label=f"image {example.number}, {run}")
        colours = [BLUE if correct else ORANGE for correct in answers.correct]
        bars = axes.barh(range(len(colours)), answers.probabilities, 0.9, color=colours)
        axes.set(xlim=(0, 1), ylim=(len(colours) - 0.5, -0.5), yticks=[], xticks=[])
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        for bar, answer, value, correct in zip(
            bars, answers.names, answers.probabilities, answers.correct, strict=True
        ):
            text = _answer(answer, value, correct, panel - 0.14)
            middle = bar.get_y() + bar.get_height() / 2
            axes.text(0.04 / (panel - 0.1), middle, text, size=SMALL_SIZE, va="center_baseline")


def _colour_key(sheet, top):
    """What the two colours mean; returns where it ends."""
    left = EDGE
    for colour, text in ((BLUE, "the true class ✓"), (ORANGE, "another class")):
        axes = sheet.axes(left, top + 0.02, 0.16, 0.08)
        axes.set(xticks=[], yticks=[], facecolor=colour)
        axes.spines[:].set_visible(False)
        sheet.line(left + 0.21, top + 0.09, text)
        left += 1.3
    return top + 0.24


def _text(sheet, top, example, runs):
    """A part of a text, and below it a line a gap with the answers of every run."""
    lines = _wrapped(example)
    sheet.text(EDGE, top, "\n".join(lines), size=SMALL_SIZE)
    top += _LINE * len(lines) + 0.04
    truth, begin = EDGE + 0.2, EDGE + 0.3 + _TRUTH
    column = (sheet.width - begin - EDGE) / len(runs)
    sheet.line(truth, top + 0.09, "true word", style="italic")
    for place, run in enumerate(runs):
        name = shortened(run, column - 0.1) if len(runs) > 1 else "answers"
        sheet.line(begin + place * column, top + 0.09, name, style="italic")
    rule = sheet.axes(EDGE, top + _LINE + 0.015, sheet.width - 2 * EDGE, 0.001)
    rule.set(xticks=[], yticks=[])
    rule.spines[["left", "right", "bottom"]].set_visible(False)
    rule.spines["top"].set(color=FAINT, linewidth=0.4)
    for gap, true in enumerate(example.truth):
        top += _LINE
        base = top + 0.13
        sheet.line(EDGE, base, f"{gap + 1}", weight="bold")
        sheet.line(truth, base, shortened(true, _TRUTH, weight="bold"), weight="bold")
        for place, run in enumerate(runs):
            answers = answer_line(example.answers[run][gap], column - 0.1)
            sheet.line(begin + place * column, base, answers)


def answer_line(answers, inches):
    """As many words with their probabilities as have room, a tick behind the true one."""
    line = ""
    for answer in zip(answers.names, answers.probabilities, answers.correct, strict=True):
        text = _answer(*answer, inches)
        longer = f"{line} · {text}" if line else text
        if line and width_of(longer) > inches:
            break
        line = longer
    return line


def _answer(name, probability, correct, inches):
    """An answer with its probability, and a tick behind the true one."""
    rest = f" {_percent(probability)}{' ✓' if correct else ''}"
    return shortened(name, inches - width_of(rest)) + rest


def _percent(value):
    return f"{value:.0%}" if value >= 0.005 else "<1%"


def _wrapped(example):
    """The lines of a text; a gap is a number and what stands there, in brackets."""
    words = [
        f"[{gap}\u00a0{word.strip('[]')}]" if gap else "|" if word == SEP else word
        for word, gap in example.words
    ]
    return wrapped([f"#{example.number}\u00a0", *words], PAGE - 2 * EDGE)


def _text_height(example):
    return _LINE * (len(_wrapped(example)) + 1 + len(example.truth)) + 0.2

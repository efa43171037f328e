"""Figure 6: a page of images and sentences that were held out, with the answers of some runs."""

from keras_vitbert.inspection.sheet import (
    EDGE,
    FAINT,
    PAGE,
    TEXT_SIZE,
    Sheet,
    shortened,
    width_of,
    wrapped,
)
from pipelines.text.wordpiece import SEP

# Light blue and orange: letters stand out on them, and colour-blind readers can distinguish them.
_BLUE, _ORANGE = "#8EC3E6", "#F6CF85"
_IMAGE, _UNIT = 0.72, 0.98  # inches: an image, and a row of images with the line above it
_NARROWEST = 1.15  # inches of a panel of bars
_BAR = 0.144  # inches down from one bar to the next
_LINE = 0.12  # inches of a line of letters
_TRUTH = 1.0  # inches of a true word


def draw(images, texts, names, split="validation"):
    """A page of examples: for every image, bars per run; for every text gap, a line of answers.

    Args:
        images: list of `ImageExample`.
        texts: list of `TextExample`.
        names: list of str, the runs that have answers to some of these.
        split: str, where the examples come from.

    Returns:
        `Sheet`.
    """
    image_runs = [name for name in names if images and name in images[0].answers]
    text_runs = [name for name in names if texts and name in texts[0].answers]
    note = "run: " if len(names) == 1 else "runs: "
    note = "\n".join(wrapped((note + ", ".join(names)).split(" "), PAGE - 2 * EDGE))
    width = max(PAGE, 2 * EDGE + _IMAGE + _NARROWEST * len(image_runs))
    room = width - 2 * EDGE
    columns = max(1, min(3, int(room // (_IMAGE + 1.25 * len(image_runs) + 0.1))))
    row = _UNIT + (0.14 if len(image_runs) > 1 else 0)
    height = 0.1
    height += 0.44 + -(-len(images) // columns) * row if images else 0
    height += 0.22 + sum(map(_text_height, texts)) if texts else 0
    sheet = Sheet(width, height, f"Examples of {split}, and answers", note)
    top = sheet.top + 0.04
    if images:
        kind = "images: true class above, probability of the likeliest classes beside"
        sheet.text(EDGE, top, kind, size=TEXT_SIZE, style="italic")
        top += 0.2
        for place, example in enumerate(images):
            left = EDGE + place % columns * room / columns
            begin = top + place // columns * row
            _image(sheet, left, begin, room / columns, example, image_runs)
        top += -(-len(images) // columns) * row
        _colour_key(sheet, top)
        top += 0.24
    if texts:
        kind = "texts, and below each its class and what is predicted"
        if texts[0].asked == "word":
            kind = "masked words: in brackets what the network sees, below what it predicts"
        sheet.text(EDGE, top, kind, size=TEXT_SIZE, style="italic")
        top += 0.2
        for example in texts:
            _text(sheet, top, example, text_runs)
            top += _text_height(example)
    return sheet


def _line(sheet, left, base, text, **options):
    """A line of text on a baseline in inches, which it shares with the line beside it."""
    sheet.text(left, base, text, va="baseline", **options)


def _image(sheet, left, top, width, example, runs):
    """An image and, for each run, bars of its likeliest classes."""
    label = shortened(f"#{example.number}  {example.label}", width - 0.1, weight="bold")
    _line(sheet, left, top + 0.09, label, weight="bold")
    top += 0.14 + (0.14 if len(runs) > 1 else 0)
    sheet.image(left, top, _IMAGE, _IMAGE, example.image)
    panel = (width - _IMAGE - 0.16) / len(runs)
    for place, run in enumerate(runs):
        answers = example.answers[run]
        begin = left + _IMAGE + 0.08 + place * panel
        if len(runs) > 1:
            _line(sheet, begin, top - 0.05, shortened(run, panel - 0.1))
        down = _BAR * len(answers)
        axes = sheet.axes(begin, top, panel - 0.1, down, label=f"image {example.number}, {run}")
        colours = [_BLUE if answer.is_true else _ORANGE for answer in answers]
        widths = [answer.probability for answer in answers]
        axes.barh(range(len(answers)), widths, 0.9, color=colours)
        axes.set(xlim=(0, 1), ylim=(len(answers) - 0.5, -0.5), yticks=[], xticks=[])
        axes.spines["bottom"].set_visible(False)
        for bar, answer in enumerate(answers):
            text = _shown(answer, panel - 0.14)
            axes.text(0.04 / (panel - 0.1), bar, text, va="center_baseline")


def _colour_key(sheet, top):
    """What the two colours mean."""
    for left, colour, text in (
        (EDGE, _BLUE, "the true class ✓"),
        (EDGE + 1.3, _ORANGE, "another class"),
    ):
        axes = sheet.axes(left, top + 0.02, 0.16, 0.08)
        axes.set(xticks=[], yticks=[], facecolor=colour)
        axes.spines[:].set_visible(False)
        _line(sheet, left + 0.21, top + 0.09, text)


def _text(sheet, top, example, runs):
    """A part of a text, and below it one line per gap with the answers of every run."""
    lines = _wrapped(example)
    sheet.text(EDGE, top, "\n".join(lines))
    top += _LINE * len(lines) + 0.04
    truth, begin = EDGE + 0.2, EDGE + 0.3 + _TRUTH
    column = (sheet.width - begin - EDGE) / len(runs)
    _line(sheet, truth, top + 0.09, f"true {example.asked}", style="italic")
    for place, run in enumerate(runs):
        name = shortened(run, column - 0.1) if len(runs) > 1 else "answers"
        _line(sheet, begin + place * column, top + 0.09, name, style="italic")
    rule = sheet.axes(EDGE, top + _LINE + 0.015, sheet.width - 2 * EDGE, 0.001)
    rule.set(xticks=[], yticks=[])
    rule.spines["left"].set_visible(False)
    rule.spines["bottom"].set(color=FAINT, linewidth=0.4)
    for gap, true in enumerate(example.truth):
        top += _LINE
        base = top + 0.13
        if example.asked == "word":
            _line(sheet, EDGE, base, f"{gap + 1}", weight="bold")
        _line(sheet, truth, base, shortened(true, _TRUTH, weight="bold"), weight="bold")
        for place, run in enumerate(runs):
            answers = _answer_line(example.answers[run][gap], column - 0.1)
            _line(sheet, begin + place * column, base, answers)


def _answer_line(answers, inches):
    """As many words with their probabilities as fit."""
    line = ""
    for answer in answers:
        text = _shown(answer, inches)
        longer = f"{line} · {text}" if line else text
        if line and width_of(longer) > inches:
            break
        line = longer
    return line


def _shown(answer, inches):
    """An answer with its probability, and a tick after the true one."""
    percent = f"{answer.probability:.0%}" if answer.probability >= 0.005 else "<1%"
    rest = f" {percent}{' ✓' if answer.is_true else ''}"
    return shortened(answer.name, inches - width_of(rest)) + rest


def _wrapped(example):
    """The lines of a text; a gap is a number and the word there, in brackets."""
    words = [
        f"[{gap}\u00a0{word.strip('[]')}]" if gap else "|" if word == SEP else word
        for word, gap in example.words
    ]
    return wrapped([f"#{example.number}\u00a0", *words], PAGE - 2 * EDGE)


def _text_height(example):
    """The height of a text and its answers, in inches."""
    return _LINE * (len(_wrapped(example)) + 1 + len(example.truth)) + 0.2

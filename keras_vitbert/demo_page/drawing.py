"""The page's panels as HTML: bars, heat maps over an image, coloured tokens.

Pictures are part of the HTML, so that a panel needs no file and no other host.
"""

import base64
import html
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_vitbert.inspection.sheet import colours

ATTENTION, ACTIVATION = "attention", "activation"
_OVERLAY = 0.7  # the share of a heat map's colour in an overlay
_LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue
_STOPS = ", ".join(
    "#" + bytes(colour).hex() for colour in colours(np.linspace(0, 1, 9)).astype(np.uint8)
)

CSS = f"""
.vb-model {{ font-weight: 600; font-size: 1.05rem; overflow-wrap: anywhere; }}
.vb-faint {{ color: color-mix(in srgb, currentColor 75%, transparent); font-size: .85rem; }}
.vb-hint {{ color: color-mix(in srgb, currentColor 75%, transparent); padding: 1rem 0; }}
.vb-error {{ color: #b42318; background: #fef3f2; border-left: 4px solid #b42318;
  padding: .5rem .75rem; margin: .5rem 0; overflow-wrap: anywhere; }}
.vb-title {{ font-weight: 600; margin: 1rem 0 .3rem; }}
.vb-bars {{ display: grid; grid-template-columns: fit-content(10rem) 1fr 3.6rem;
  gap: .3rem .6rem; align-items: center; max-width: 42rem; }}
.vb-bar {{ display: contents; }}
.vb-name {{ text-align: right; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }}
.vb-track {{ background: var(--border-color-primary); height: 1.1rem; }}
.vb-fill {{ background: #2a788e; height: 100%; min-width: 1px; display: block; }}
.vb-number {{ font-variant-numeric: tabular-nums; text-align: right; }}
.vb-pictures {{ display: flex; gap: 1rem; flex-wrap: wrap; margin-top: .4rem; }}
.vb-pictures figure {{ margin: 0; flex: 1 1 140px; max-width: 300px; }}
.vb-pictures img, .vb-thumbs img {{ width: 100%; image-rendering: pixelated; display: block; }}
.vb-thumbs {{ display: flex; flex-wrap: wrap; gap: .3rem; margin-top: .6rem; }}
.vb-thumbs figure {{ margin: 0; width: 84px; text-align: center; font-size: .8rem; }}
.vb-thumbs img {{ border: 3px solid transparent; }}
.vb-chosen img {{ border-color: #ea580c; }}
.vb-scale {{ display: inline-block; width: 7rem; height: .7rem; margin: 0 .4rem;
  background: linear-gradient(to right, {_STOPS}); }}
.vb-tokens {{ line-height: 2.1; margin: .4rem 0; }}
.vb-token {{ padding: .15rem .35rem; font-family: var(--font-mono); white-space: pre; }}
.vb-scroll {{ overflow-x: auto; }}
.vb-grid {{ border-collapse: separate; border-spacing: 2px; font-size: .8rem; width: auto; }}
table.vb-grid, table.vb-grid :is(tr, th, td) {{ border: none; }}
.vb-grid th {{ font-weight: 400; padding: 0 .3rem; white-space: nowrap; }}
.vb-grid thead th {{ font-family: var(--font-mono); }}
.vb-grid td {{ height: 1.2rem; min-width: 1.6rem; padding: 0; }}
.vb-grid tr.vb-chosen th {{ font-weight: 700; color: #ea580c; }}
"""


class View(NamedTuple):
    """What to show of the blocks.

    Attributes:
        what: str, `ATTENTION` or `ACTIVATION`.
        block: int, the block that is shown large.
        head: int, of the attention; -1 for the mean over all heads.
    """

    what: str = ATTENTION
    block: int = 0
    head: int = -1


def values_of(shown, view):
    """The values of the tokens in every block.

    Args:
        shown: `keras_vitbert.demo_page.answers.Shown`.
        view: `View`.

    Returns:
        dict of a row of `shown.rows`, or `every token` for activations, to `(blocks, tokens)`.
    """
    if view.what == ACTIVATION:
        return {"every token": shown.activation}
    attention = shown.attention
    weights = attention.mean(axis=1) if view.head < 0 else attention[:, view.head]
    return {row: weights[:, place] for place, row in enumerate(shown.rows)}


def ends_of(values, what):
    """The ends of the colour scale: attention begins at 0, which no activation comes near.

    Args:
        values: array of any shape.
        what: str, `ATTENTION` or `ACTIVATION`.

    Returns:
        (float, float), the lowest and the highest value.
    """
    return (0.0 if what == ATTENTION else float(np.min(values))), float(np.max(values))


def overlay(picture, values, ends):
    """A heat map over a picture.

    Args:
        picture: uint8 `(size, size, 3)`.
        values: `(patches,)`, row by row.
        ends: (float, float), see `ends_of`.

    Returns:
        uint8 `(size, size, 3)`: in each patch the colour of its value over the picture in grey.
    """
    grid = round(len(values) ** 0.5)
    patch = picture.shape[0] // grid
    colour = _coloured(values.reshape(grid, grid), ends).repeat(patch, 0).repeat(patch, 1)
    grey = (picture @ np.array(_LUMINANCE))[..., None]
    return np.rint(_OVERLAY * colour + (1 - _OVERLAY) * grey).astype(np.uint8)


def bars(answers):
    """The likeliest answers as bars.

    Args:
        answers: dict, see `Shown`.

    Returns:
        str, HTML.
    """
    parts = []
    for title, pairs in answers.items():
        parts.append(f'<div class="vb-title">{html.escape(title)}</div>' if title else "")
        parts.append('<div class="vb-bars">')
        for name, probability in pairs:
            name = html.escape(name)
            parts.append(
                f'<div class="vb-bar"><span class="vb-name" title="{name}">{name}</span>'
                f'<span class="vb-track"><span class="vb-fill" style="'
                f'width:{probability:.2%}"></span></span>'
                f'<span class="vb-number">{_percent(probability)}</span></div>'
            )
        parts.append("</div>")
    return "".join(parts)


def _percent(probability):
    return "&lt;0.1%" if 0 < probability < 0.0005 else f"{probability:.1%}"


def panel(shown, view):
    """All that is shown of one model.

    Args:
        shown: `keras_vitbert.demo_page.answers.Shown`.
        view: `View`.

    Returns:
        str, HTML.
    """
    parts = [bars(shown.answers), *map(hint, shown.notes)]
    draw = _tokens if shown.picture is None else _pictures
    if view.block >= shown.blocks:
        parts.append(_none_such("block", view.block, shown.blocks))
    elif view.what == ATTENTION and view.head >= shown.heads:
        parts.append(_none_such("head", view.head, shown.heads))
    else:
        parts += [draw(shown, view, *pair) for pair in values_of(shown, view).items()]
    return "".join(parts)


def _none_such(what, number, count):
    """One of two models may have fewer blocks or heads than there are to choose from."""
    return hint(f"This model has no {what} {number}; its last is {what} {count - 1}.")


def error(text):
    """A line that says what is wrong.

    Args:
        text: str.

    Returns:
        str, HTML.
    """
    return f'<div class="vb-error" role="alert">{html.escape(text)}</div>'


def hint(text):
    """A line that says what to do.

    Args:
        text: str.

    Returns:
        str, HTML.
    """
    return f'<div class="vb-hint">{html.escape(text)}</div>'


def _pictures(shown, view, row, values):
    """A heat map of the chosen block beside the picture, and small ones of all blocks."""
    patches = values[:, 1:]
    chosen = patches[view.block]
    note = ""
    if view.what == ATTENTION:
        note = f"{values[view.block, 0]:.1%} of its attention goes to the class token itself."
    large = {
        "as the model sees it": shown.picture,
        f"block {view.block}": overlay(shown.picture, chosen, ends_of(chosen, view.what)),
    }
    figures = [
        f'<figure>{_image(pixels, label)}<figcaption class="vb-faint">{label}</figcaption></figure>'
        for label, pixels in large.items()
    ]
    thumbs = [
        f'<figure class="{"vb-chosen" if number == view.block else ""}">'
        f"{_image(overlay(shown.picture, some, ends_of(some, view.what)), f'block {number}')}"
        f"block {number}</figure>"
        for number, some in enumerate(patches)
    ]
    return (
        f"{_heading(view, row, chosen)}<div class='vb-pictures'>{''.join(figures)}</div>"
        f"<div class='vb-faint'>{note}</div>"
        f"<div class='vb-thumbs'>{''.join(thumbs)}</div>"
    )


def _tokens(shown, view, row, values):
    """The text in the colours of the chosen block, and a table of all blocks."""
    chosen = values[view.block]
    line = "".join(
        f'<span class="vb-token" style="{style}" title="{value:.3g}">{html.escape(token)}</span> '
        for token, style, value in zip(
            shown.tokens, _styles(chosen, view.what), chosen, strict=True
        )
    )
    head = "".join(f"<th>{html.escape(token)}</th>" for token in shown.tokens)
    rows = []
    for number, some in enumerate(values):
        cells = "".join(
            f'<td style="{style}" title="{value:.3g}"></td>'
            for style, value in zip(_styles(some, view.what), some, strict=True)
        )
        mark = ' class="vb-chosen"' if number == view.block else ""
        rows.append(f"<tr{mark}><th>block {number}</th>{cells}</tr>")
    return (
        f"{_heading(view, row, chosen)}<div class='vb-tokens'>{line}</div>"
        f"<div class='vb-scroll'><table class='vb-grid'><thead><tr><th></th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _heading(view, row, chosen):
    """What the colours show, and their scale in the chosen block."""
    low, high = ends_of(chosen, view.what)
    if view.what == ATTENTION:
        head = "mean of all heads" if view.head < 0 else f"head {view.head}"
        text = f"What {row} attends to in block {view.block}, {head}"
    else:
        text = f"Mean absolute activation after block {view.block}"
    return (
        f'<div class="vb-title">{html.escape(text)}</div><div class="vb-faint">{low:.3g}'
        f'<span class="vb-scale"></span>{high:.3g}, each block by its own scale</div>'
    )


def _coloured(values, ends):
    """Colours on a scale: uint8 `values.shape + (3,)`."""
    low, high = ends
    return colours(np.asarray(values, np.float64) - low, high - low)


def _styles(values, what):
    """CSS of each value's colour, with letters that are readable on it."""
    for colour in _coloured(values, ends_of(values, what)):
        ink = "#000" if colour @ np.array(_LUMINANCE) > 120 else "#fff"
        yield f"background:#{bytes(colour).hex()};color:{ink}"


def _image(pixels, label):
    png = base64.b64encode(tf.io.encode_png(pixels).numpy()).decode()
    return f'<img alt="{html.escape(label)}" src="data:image/png;base64,{png}">'

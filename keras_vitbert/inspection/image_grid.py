"""Images side by side, each with a caption."""

from keras_vitbert.inspection.sheet import EDGE, SCREEN, Sheet, shortened, style

_COLUMNS = 8
_IMAGE, _GAP, _LINE = 1.15, 0.1, 0.12  # inches


def image_grid(images, captions, title, note=""):
    """Draws images in rows.

    Args:
        images: list of uint8 arrays `(height, width, 3)`, square.
        captions: list of as many lists of str, the lines below each image.
        title: str.
        note: str, see `Sheet`.

    Returns:
        uint8 `(height, width, 3)`.
    """
    columns = min(_COLUMNS, max(len(images), 3))
    row = _IMAGE + 0.04 + _LINE * max(map(len, captions)) + _GAP
    width = 2 * EDGE + columns * (_IMAGE + _GAP) - _GAP
    with style():
        sheet = Sheet(width, 0.06 + row * -(-len(images) // columns), title, note, SCREEN)
        for place, (image, lines) in enumerate(zip(images, captions, strict=True)):
            left = EDGE + place % columns * (_IMAGE + _GAP)
            top = sheet.top + 0.06 + place // columns * row
            sheet.image(left, top, _IMAGE, _IMAGE, image)
            texts = "\n".join(shortened(line, _IMAGE) for line in lines)
            sheet.text(left, top + _IMAGE + 0.04, texts)
        return sheet.picture()

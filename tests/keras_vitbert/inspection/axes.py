"""What is found again in a figure, and the figures' fixture."""

from matplotlib.text import Text

from keras_vitbert.inspection.drawing import picture, style


def drawn(draw, *arguments, **options):
    """A figure after a look at its edges: nothing that is drawn may leave the page."""
    with style():
        figure = draw(*arguments, **options)
        picture(figure)
        box = figure.get_tightbbox(figure.canvas.get_renderer())  # inches
        width, height = figure.get_size_inches()
        assert 0 <= box.x0 and box.x1 <= width and 0 <= box.y0 and box.y1 <= height, box
    return figure


def by_label(figure, start):
    """The axes whose label begins with a text, by their labels."""
    found = {str(axes.get_label()): axes for axes in figure.axes}
    return {label: axes for label, axes in found.items() if label.startswith(start)}


def texts_of(figure):
    """All texts that are shown, in the order they were added."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and str(text)]


def cells_of(axes):
    """The values of the image in axes."""
    [image] = axes.get_images()
    return image.get_array()

"""The layout of the page: the inputs on the left, a panel per model on the right."""

import html

import gradio as gr

from keras_vitbert.demo_page import drawing
from keras_vitbert.demo_page.drawing import ACTIVATION, ATTENTION, View
from pipelines.command_line import one_line
from pipelines.text.wordpiece import MASK

# Fonts of the reader's system: others would come from another host.
THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
_ALL_HEADS = -1
_NO_IMAGE = "Drop an image on the left."
_NO_TEXT = "Type a sentence on the left and press Enter."


def build(models):
    """The page.

    Args:
        models: list of `keras_vitbert.demo_page.answers.ShownModel`, one or two.

    Returns:
        `gradio.Blocks`.
    """
    with gr.Blocks(title="ViT-BERT", analytics_enabled=False, fill_width=True) as page:
        if len(models) == 1:
            gr.HTML(_about(models[0]), padding=True)
        if any(model.takes_images for model in models):
            with gr.Tab("Image"):
                _image_tab(models)
        if any(model.takes_texts for model in models):
            with gr.Tab("Text"):
                _text_tab(models)
    return page


def _about(model):
    """What a model is, and what it cannot do: HTML."""
    trained, backbone = model.trained, model.trained.backbone
    facts = [trained.name, f"blocks: {backbone.num_layers}, heads: {backbone.num_heads}"]
    if model.takes_images:
        size, patch = backbone.image_size, backbone.patch_size
        facts.append(f"images of {size} × {size} in patches of {patch} × {patch}")
    if model.takes_texts:
        facts.append(f"texts of up to {backbone.max_sequence_length} tokens")
    facts = html.escape(" ".join([", ".join(facts) + ".", *model.lacks()]))
    name = html.escape(trained.path)
    return f'<div class="vb-model">{name}</div><div class="vb-faint">{facts}</div>'


def _image_tab(models):
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            picture = gr.Image(
                label="Image",
                type="filepath",
                image_mode=None,
                sources=["upload", "clipboard"],
                height=240,
            )
            # The file as it was dropped, so that the model sees what it would see in `predict`.
            picture.preprocess = lambda given: given and given.path
            controls = _controls(models)
        panels = _panels(models, _NO_IMAGE)

    def show(path, *view):
        return [
            drawing.hint("This model takes no images.")
            if not model.takes_images
            else _panel(model.image, [path], view)
            if path
            else drawing.hint(_NO_IMAGE)
            for model in models
        ]

    _connect(show, [picture, *controls], panels, [picture.change], controls)


def _text_tab(models):
    fills = any(model.fills_masks for model in models)
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            example = f"Where is the {MASK}?" if fills else "Type here"
            text = gr.Textbox(label="Sentence", placeholder=example, max_lines=8)
            pair = gr.Textbox(label="Second sentence, if there is one", max_lines=8)
            ask = gr.Button("Ask", variant="primary")
            controls = _controls(models)
        panels = _panels(models, _NO_TEXT)

    def show(text, pair, *view):
        return [
            drawing.hint("This model takes no texts.")
            if not model.takes_texts
            else _panel(model.text, [text, pair], view)
            if text
            else drawing.hint(_NO_TEXT)
            for model in models
        ]

    asking = [text.submit, pair.submit, ask.click]
    _connect(show, [text, pair, *controls], panels, asking, controls)


def _panel(look, given, view):
    """The panel of what a model makes of something: HTML."""
    what, block, head = view
    try:
        return drawing.panel(look(*given), View(what, int(block), int(head)))
    except Exception as error:  # Gradio would log a traceback
        return drawing.error(one_line(error)[:300])


def _connect(show, inputs, panels, asking, controls):
    """Calls `show` when something is asked, and when the choice of what to show changes."""
    options = {"fn": show, "inputs": inputs, "outputs": panels, "api_visibility": "private"}
    gr.on(asking, **options)
    changes = [control.change for control in controls]
    gr.on(changes, trigger_mode="always_last", show_progress="hidden", **options)


def _controls(models):
    """Controls of what to show of the blocks: components with the values of a `View`."""
    blocks = [model.trained.backbone.num_layers for model in models]
    heads = max(model.trained.backbone.num_heads for model in models)
    what = gr.Radio([ATTENTION, ACTIVATION], value=ATTENTION, label="Show of each block")
    most = max(blocks)
    block = gr.Slider(  # at first the last block that all models have
        0, max(1, most - 1), value=min(blocks) - 1, step=1, label="Block", visible=most > 1
    )
    choices = [("mean of all heads", _ALL_HEADS), *((f"head {n}", n) for n in range(heads))]
    head = gr.Dropdown(choices, value=_ALL_HEADS, label="Attention head", filterable=False)
    return what, block, head


def _panels(models, hint):
    """A column per model, each with a hint at first."""
    panels = []
    for model in models:
        with gr.Column(scale=2, min_width=360):
            if len(models) > 1:
                gr.HTML(_about(model), padding=True)
            panels.append(gr.HTML(drawing.hint(hint), padding=True))
    return panels

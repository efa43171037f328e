"""The page of the demo: the inputs on the left, a panel per model on the right."""

import tempfile
from typing import Any

import gradio as gr
from gradio import themes
from matplotlib.figure import Figure
from PIL import Image

from keras_vitbert.extras.demo_page.answers import Shown, ShownModel
from keras_vitbert.inspection.drawing import style
from keras_vitbert.inspection.example_figures import image_blocks, text_blocks
from keras_vitbert.trained.sharing import model_card
from keras_vitbert.trained.trained_model import origin_of
from pipelines.command_line import one_line
from pipelines.text.wordpiece import MASK

# Fonts of the reader's system: others would come from another host.
THEME = themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
ATTENTION, ACTIVATION = "attention", "activation"
TEXT = f"The capital of France is {MASK}."  # an example for models that fill masks
_ALL_HEADS = -1


def build(models: list[ShownModel]) -> gr.Blocks:
    """The page of one or two models, which answer once before: the first answer takes longer."""
    for model in models:
        if model.takes_images:
            with tempfile.NamedTemporaryFile(suffix=".png") as black:
                Image.new("RGB", (32, 32)).save(black.name)
                model.image(black.name)
        if model.takes_texts:
            model.text(MASK)
    with gr.Blocks(title="ViT-BERT", analytics_enabled=False, fill_width=True) as page:
        with gr.Row():
            for model in models:
                with gr.Column():
                    _about(model)
        if any(model.takes_images for model in models):
            with gr.Tab("Image"):
                # The file as it is, so that the model sees what it would see in `predict`.
                image = gr.Image(
                    label="Image",
                    sources=["upload", "clipboard"],
                    type="filepath",
                    image_mode=None,
                    height=240,
                    render=False,
                )
                _panels(models, "images", [image], [])
        if any(model.takes_texts for model in models):
            with gr.Tab("Text"):
                text = gr.Textbox(label="Sentence", max_lines=8, render=False)
                pair = gr.Textbox(label="Second sentence, if any", max_lines=8, render=False)
                examples = [[TEXT]] if any(model.fills_masks for model in models) else []
                _panels(models, "texts", [text, pair], examples)
    return page


def _about(model: ShownModel) -> None:
    """A model's size, what it cannot do, and its card."""
    trained, backbone = model.trained, model.trained.backbone
    facts = [f"{trained.name}, blocks: {backbone.num_layers}, heads: {backbone.num_heads}"]
    if model.takes_images:
        size, patch = backbone.image_size, backbone.patch_size
        facts.append(f"images of {size} × {size} in patches of {patch} × {patch}")
    if model.takes_texts:
        facts.append(f"texts of up to {backbone.max_sequence_length} tokens")
    facts = " ".join([", ".join(facts) + ".", *model.lacks()])
    gr.Textbox(facts, label=trained.path, interactive=False, lines=2)
    with gr.Accordion("Model card", open=False):
        card = model_card(trained, "run", origin_of(trained))
        gr.Markdown(card.split("---\n", 2)[2])  # without the metadata for model hubs


def _panels(
    models: list[ShownModel], kind: str, inputs: list[Any], examples: list[list[str]]
) -> None:
    """The inputs on the left, a panel per model on the right."""
    blocks = [model.trained.backbone.num_layers for model in models]
    heads = max(model.trained.backbone.num_heads for model in models)
    choices = [("mean of all heads", _ALL_HEADS), *((f"head {n}", n) for n in range(heads))]
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            for component in inputs:
                component.render()
            ask = gr.Button("Ask", variant="primary", visible=kind == "texts")
            if examples:
                gr.Examples(examples, inputs[:1], cache_examples=False, api_visibility="private")
            what = gr.Radio([ATTENTION, ACTIVATION], value=ATTENTION, label="Show of each block")
            most = max(blocks)
            block = gr.Slider(  # at first the last block that all models have
                0, max(1, most - 1), min(blocks) - 1, step=1, label="Block", visible=most > 1
            )
            head = gr.Dropdown(choices, value=_ALL_HEADS, label="Attention head", filterable=False)
        views = [what, block, head]
        asking = [inputs[0].change] if kind == "images" else [ask.click, inputs[0].submit]
        for model in models:
            with gr.Column(scale=2, min_width=360):

                @gr.render([*inputs, *views], [*asking, *(view.change for view in views)])
                def show(*values: Any, model: ShownModel = model) -> None:
                    _show(model, kind, values[: len(inputs)], *values[len(inputs) :])


def _show(
    model: ShownModel, kind: str, given: tuple[str, ...], what: str, block: int, head: int
) -> None:
    """The panel of a model: its answers, and what its blocks do."""
    if not (model.takes_images if kind == "images" else model.takes_texts):
        gr.Markdown(f"This model takes no {kind}.")
    elif given[0]:
        try:
            shown = model.image(*given) if kind == "images" else model.text(*given)
            figure = blocks_figure(shown, what, block, head)
        except ValueError as error:
            gr.Textbox(one_line(error), label="Error", interactive=False)
            return
        # Always and first: Gradio hands the next value to a Markdown that has gone, which fails.
        gr.Markdown("\n\n".join(shown.notes))
        for title, answers in shown.answers.items():
            gr.Label(answers, label=title, show_heading=False)
        gr.Plot(figure, show_label=False, format="png")


def blocks_figure(shown: Shown, what: str, block: int, head: int) -> Figure:
    """What the blocks do, by matplotlib; no such block or head is a `ValueError`."""
    count, heads = next(iter(shown.attention.values())).shape[:2]
    if block >= count:
        raise ValueError(f"This model has no block {block}; its last is block {count - 1}.")
    title, low = "Mean absolute activation after each block", None
    rows = {"every token": shown.activation}
    if what == ATTENTION:  # which begins at 0, and no activation comes near that
        if head >= heads:
            raise ValueError(f"This model has no head {head}; its last is head {heads - 1}.")
        name, low = f"head {head}" if head >= 0 else "mean of all heads", 0.0
        title = f"Attention by {', '.join(shown.attention)}: {name}"
        rows = {
            row: values[:, head] if head >= 0 else values.mean(axis=1)
            for row, values in shown.attention.items()
        }
    with style():
        if shown.picture is None:
            return text_blocks(title, shown.tokens, rows, block, low)
        [values] = rows.values()
        note = f"{values[block, 0]:.1%} goes to the class token itself" if low == 0 else ""
        return image_blocks(title, shown.picture, values[:, 1:], block, low, note)

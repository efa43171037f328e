"""From runs to files: every figure that can be drawn, and a line for each that cannot."""

import os
import sys

from keras_vitbert.paper_figures import (
    activation_figure,
    mask_figure,
    qualitative_figure,
    sparsity_figure,
)
from keras_vitbert.paper_figures.finished_runs import Lacking
from keras_vitbert.paper_figures.qualitative_values import image_examples, text_examples
from keras_vitbert.paper_figures.sparsity_figure import Sparsities
from keras_vitbert.paper_figures.style import encoded, raster, style
from pipelines.command_line import UserError
from pipelines.files import make_folder, write_atomically


def draw_figures(runs, output, figures, formats, blocks="", examples=6):
    """Draws figures of runs and writes them.

    Args:
        runs: dict of name to `FinishedRun`.
        output: str, a folder, made where it is not there; local or `gs://`.
        figures: list of str, of `3` to `6`; 6 has all runs side by side, of the others each run
            has its own.
        formats: list of `png`, `svg`.
        blocks: str, see `activation_figure.chosen_blocks`.
        examples: int, images of figure 6; there are half as many texts.

    Returns:
        list of str, the files.

    Raises:
        UserError: the folder cannot be written to, something is damaged, or there is nothing to
            draw.
    """
    for run in runs.values():  # before anything is written
        activation_figure.chosen_blocks(blocks, run.record["config"]["model"]["num_layers"])
    make_folder(output, "output")
    draw_one = {
        "3": lambda run, name: activation_figure.draw(run.activations(), name, blocks),
        "4": _sparsity_figure,
        "5": lambda run, name: mask_figure.draw(run.masks(), name),
    }
    written, lacking = [], []

    def drawn(draw, number, label, file_name):
        """Draws and writes a figure, or says what it lacks."""
        with style():
            try:
                figure = draw()
            except Lacking as error:
                lacking.append(f"{label}: no figure {number}: {error}")
                _say(lacking[-1])
                return
            for file_format in formats:
                path = os.path.join(output, f"{file_name}.{file_format}")
                write_atomically(path, encoded(figure, file_format))
                written.append(path)

    for number in figures:
        if number == "6":
            drawn(lambda: _qualitative_figure(runs, examples), number, ", ".join(runs), "figure6")
            continue
        for name, run in runs.items():
            file_name = f"figure{number}-{name}" if len(runs) > 1 else f"figure{number}"
            draw = draw_one[number]
            drawn(lambda draw=draw, run=run, name=name: draw(run, name), number, name, file_name)
    if not written:
        raise UserError(f"nothing can be drawn: {'; '.join(lacking)}")
    return written


def _sparsity_figure(run, name):
    updates = run.masks()
    logged = {} if run.has_stored_masks else run.logged_sparsity()
    return sparsity_figure.draw(Sparsities.of(updates, logged), name)


def _qualitative_figure(runs, wanted):
    """All runs on the validation examples of the first that has such; others must fit these."""
    whole = {name: run for name, run in runs.items() if run.step}
    for name in runs:
        if name not in whole:
            _say(f"{name}: left out of figure 6: it has no checkpoint yet")
    images = _alike(whole, "images")
    texts = _alike(whole, "text")
    if not (images or texts):
        raise Lacking("there is no checkpoint yet")
    image_rows, text_rows = [], []
    if images:
        first = next(iter(images.values()))
        networks = {name: run.network for name, run in images.items()}
        image_rows = image_examples(first.data.image_validation, first.classes, networks, wanted)
    if texts:
        first = next(iter(texts.values()))
        networks = {name: run.network for name, run in texts.items()}
        text_rows = text_examples(
            first.data.text_validation, first.vocabulary, networks, max(1, wanted // 2)
        )
    return qualitative_figure.draw(image_rows, text_rows, list(whole))


def _alike(runs, modality):
    """The runs that have a modality and take the same of it as the first of them."""
    users = {name: run for name, run in runs.items() if getattr(run.variant, modality)}
    found = {}
    for name, run in users.items():
        first = next(iter(users))
        if run.sees(modality) == users[first].sees(modality):
            found[name] = run
        else:
            _say(f"{name}: left out of the {modality} of figure 6: {first} takes others")
    return found


def qualitative_picture(network, data, name, examples=6, dots_per_inch=110):
    """Figure 6 of a network at hand, such as for TensorBoard at the end of its training.

    Args:
        network: `PreTrainingNetwork`.
        data: `keras_vitbert.pretraining.data.Data` of its modalities.
        name: str, of the run.
        examples: int, images; there are half as many texts.
        dots_per_inch: int.

    Returns:
        uint8 `(height, width, 3)`.
    """
    images, texts, networks = [], [], {name: network}
    if network.backbone.image_size is not None:
        classes = data.classes or [f"class {n}" for n in range(network.num_classes)]
        images = image_examples(data.image_validation, classes, networks, examples)
    if network.backbone.vocabulary_size is not None:
        wanted = max(1, examples // 2)
        texts = text_examples(data.text_validation, data.vocabulary, networks, wanted)
    with style():
        return raster(qualitative_figure.draw(images, texts, [name]), dots_per_inch)


def _say(text):
    print(text, file=sys.stderr, flush=True)

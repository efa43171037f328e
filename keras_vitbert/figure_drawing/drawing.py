"""From runs to files: every figure that can be drawn, and a line for each that cannot."""

import os
import sys

from keras_vitbert.command_line import UserError
from keras_vitbert.figure_drawing import (
    activation_figure,
    mask_figure,
    qualitative_figure,
    sparsity_figure,
)
from keras_vitbert.figure_drawing.finished_runs import Lacking
from keras_vitbert.figure_drawing.qualitative_values import image_examples, text_examples
from keras_vitbert.figure_drawing.sparsity_figure import Sparsities
from keras_vitbert.figure_drawing.style import encoded, style
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
                print(lacking[-1], file=sys.stderr, flush=True)
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
    shown = {"images": [], "text": []}
    for modality, found in shown.items():
        users = {
            name: run for name, run in runs.items() if getattr(run.variant, modality) and run.step
        }
        if not users:
            continue
        first_name, first = next(iter(users.items()))
        sees = first.sees(modality)
        fitting = {name: run for name, run in users.items() if run.sees(modality) == sees}
        for name in users.keys() - fitting.keys():
            print(
                f"{name}: left out of the {modality} of figure 6: its model takes others than that "
                f"of {first_name}",
                file=sys.stderr,
            )
        networks = {name: run.network for name, run in fitting.items()}
        if modality == "images":
            found += image_examples(first.data.image_validation, first.classes, networks, wanted)
        else:
            wanted = max(1, wanted // 2)
            found += text_examples(first.data.text_validation, first.vocabulary, networks, wanted)
    if not (shown["images"] or shown["text"]):
        raise Lacking("there is no checkpoint yet")
    return qualitative_figure.draw(shown["images"], shown["text"], list(runs))

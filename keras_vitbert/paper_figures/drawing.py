"""From runs to files: every figure that can be drawn, and a line for each that cannot."""

import functools
import json
import os

from keras_vitbert.inspection.mask_strips import mask_sheet
from keras_vitbert.inspection.sheet import COLUMN, PRINT, style
from keras_vitbert.paper_figures import (
    activation_figure,
    qualitative_figure,
    sparsity_figure,
    tradeoff_figure,
)
from keras_vitbert.paper_figures.fine_tuned_runs import FineTunedRun, examples_of
from keras_vitbert.paper_figures.finished_runs import Lacking
from keras_vitbert.paper_figures.qualitative_values import image_examples, text_examples
from keras_vitbert.paper_figures.sparsity_figure import Sparsities
from keras_vitbert.runs.origin import made_of
from pipelines.command_line import say
from pipelines.files import make_folder, write_atomically


def draw_figures(runs, output, figures, formats, blocks="", examples=6):
    """Draws figures of runs and writes them; their metadata say what the runs were made from.

    Args:
        runs: dict of name to `FinishedRun` or `FineTunedRun`.
        output: str, a folder, made if it does not exist; local or `gs://`.
        figures: list of str, of `2` to `6`; 2 and 6 have all runs side by side, the others are
            drawn for each run. Fine-tuned runs appear only in 6, which then shows no others.
        formats: list of `png`, `svg`.
        blocks: str, see `activation_figure.chosen_blocks`.
        examples: int, images of figure 6; there are half as many texts.

    Returns:
        list of str, the files.

    Raises:
        ValueError: the folder cannot be written to, something is damaged, or there is nothing to
            draw.
    """
    tuned = {name: run for name, run in runs.items() if isinstance(run, FineTunedRun)}
    trained = {name: run for name, run in runs.items() if name not in tuned}
    for run in trained.values():  # before anything is written
        activation_figure.chosen_blocks(blocks, run.record["experiment"]["model"]["num_layers"])
    draw_one = {
        "3": lambda run, name: activation_figure.draw(run.activations(), name, blocks),
        "4": _sparsity_figure,
        "5": lambda run, name: _mask_figure(run.masks(), name),
    }
    left_out = []
    if tuned and figures != ["6"]:
        left_out.append(f"{', '.join(tuned)}: fine-tuned, which only figure 6 shows")
    if tuned and trained and "6" in figures:
        left_out.append(f"{', '.join(trained)}: not in figure 6, which shows fine-tuned runs")
    examples_figure = _fine_tuned_figure if tuned else _qualitative_figure
    draw_all = {
        "2": (_tradeoff_figure, trained),
        "6": (functools.partial(examples_figure, wanted=examples), tuned or trained),
    }
    jobs = []
    for number in figures:
        if number in draw_all:
            draw, shown = draw_all[number]
            if shown:
                jobs.append(
                    (number, list(shown), f"figure{number}", functools.partial(draw, shown))
                )
            continue
        for name, run in trained.items():
            file_name = f"figure{number}-{name}" if len(trained) > 1 else f"figure{number}"
            jobs.append((number, [name], file_name, functools.partial(draw_one[number], run, name)))
    if not jobs:
        raise ValueError(f"nothing can be drawn: {'; '.join(left_out)}")
    make_folder(output)
    drawn, lacking = {}, []
    with style():
        for number, names, file_name, draw in jobs:
            try:
                sheet = draw()
            except Lacking as error:
                lacking.append(f"{', '.join(names)}: no figure {number}: {error}")
                say(lacking[-1])
                continue
            about = {name: made_of(runs[name].record, runs[name].summary) for name in names}
            for file_format in formats:
                path = os.path.join(output, f"{file_name}.{file_format}")
                drawn[path] = sheet.encoded(file_format, json.dumps(about))
    if not drawn:
        raise ValueError(f"nothing can be drawn: {'; '.join([*left_out, *lacking])}")
    for line in left_out:
        say(line)
    for path, content in drawn.items():  # all of them or, if something is damaged, none
        write_atomically(path, content)
    return list(drawn)


def _sparsity_figure(run, name):
    return sparsity_figure.draw(Sparsities.of(run.masks(), run.logged_sparsity()), name)


def _mask_figure(updates, name):
    """Figure 5: the masks of the first, the middle and the last block."""
    return mask_sheet(updates, list(updates[-1].kept), COLUMN, PRINT, f"run: {name}")


def _tradeoff_figure(runs):
    """Figure 2's counterpart, for the finished runs with both modalities."""
    found = []
    for name, run in runs.items():
        if not (run.variant.images and run.variant.text and run.summary):
            say(f"{name}: left out of figure 2: it has one modality only, or is not finished")
            continue
        found.append((run.record, run.summary["validation"]))
    if not found:
        raise Lacking("no finished run has both modalities")
    return tradeoff_figure.draw(tradeoff_figure.points_of(found))


def _qualitative_figure(runs, wanted):
    """All runs on the validation examples of the first run with any; others must fit these."""
    whole = {name: run for name, run in runs.items() if run.step}
    for name in runs:
        if name not in whole:
            say(f"{name}: left out of figure 6: it has no checkpoint yet")
    images, texts = (_alike(whole, modality) for modality in ("images", "text"))
    if not (images or texts):
        raise Lacking("there is no checkpoint yet")
    image_rows, text_rows = [], []
    if images:
        first = next(iter(images.values()))
        networks = {name: run.trained.network for name, run in images.items()}
        image_rows = image_examples(first.data, first.classes, networks, wanted)
    if texts:
        first = next(iter(texts.values()))
        networks = {name: run.trained.network for name, run in texts.items()}
        text_rows = text_examples(
            first.data, first.trained.vocabulary, networks, max(1, wanted // 2)
        )
    return qualitative_figure.draw(image_rows, text_rows, list(whole))


def _fine_tuned_figure(runs, wanted):
    """Fine-tuned runs on an image task and on a text task."""
    pages = {}
    for kind, count in (("images", wanted), ("text", max(1, wanted // 2))):
        of_kind = {name: run for name, run in runs.items() if run.kind == kind}
        first = next(iter(of_kind.values()), None)
        same = {name: run for name, run in of_kind.items() if run.sees == first.sees}
        for name in of_kind.keys() - same.keys():
            say(f"{name}: left out of figure 6: {next(iter(same))} has other examples")
        pages[kind] = examples_of(same, count) if same else []
    splits = " and ".join(dict.fromkeys(run.summary["split"] for run in runs.values()))
    return qualitative_figure.draw(pages["images"], pages["text"], list(runs), splits)


def _alike(runs, modality):
    """The runs with a modality that take the same inputs of it as the first of them."""
    users = {name: run for name, run in runs.items() if getattr(run.variant, modality)}
    found = {}
    for name, run in users.items():
        first = next(iter(users))
        if run.sees(modality) == users[first].sees(modality):
            found[name] = run
        else:
            say(f"{name}: left out of the {modality} of figure 6: {first} takes different inputs")
    return found

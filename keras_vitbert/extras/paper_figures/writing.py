"""From runs to files: every figure that can be drawn, and a line for each that cannot."""

import functools
import json
import os

from keras_vitbert.extras.paper_figures.figures import (
    activation_figure,
    chosen_blocks,
    qualitative_figure,
    sparsity_figure,
    tradeoff_figure,
)
from keras_vitbert.extras.paper_figures.fine_tuned_runs import FineTunedRun, examples_of
from keras_vitbert.extras.paper_figures.finished_runs import Lacking
from keras_vitbert.extras.paper_figures.qualitative_values import image_examples, text_examples
from keras_vitbert.extras.paper_figures.tradeoffs import points_of
from keras_vitbert.inspection.drawing import COLUMN, PRINT, encoded, mask_figure, style
from keras_vitbert.runs.provenance import made_of
from pipelines.command_line import say
from pipelines.files import make_folder, write_atomically


def draw_figures(
    runs: dict,
    output: str,
    figures: list[str],
    formats: list[str],
    blocks: str = "",
    examples: int = 6,
) -> list[str]:
    """Draws figures of runs and writes them; their metadata say what the runs were made from.

    Args:
        runs: name to `FinishedRun` or `FineTunedRun`.
        output: a folder, made if it does not exist; local or `gs://`.
        figures: of `2` to `6`; 2 and 6 have all runs side by side, the others are drawn for each
            run. Fine-tuned runs appear only in 6, which then shows no others.
        formats: of `png`, `svg`.
        blocks: see `figures.chosen_blocks`.
        examples: images of figure 6; there are half as many texts.

    Returns:
        The files.

    Raises:
        ValueError: the folder cannot be written to, something is damaged, or there is nothing to
            draw.
    """
    tuned = {name: run for name, run in runs.items() if isinstance(run, FineTunedRun)}
    trained = {name: run for name, run in runs.items() if name not in tuned}
    for run in trained.values():  # before anything is written
        chosen_blocks(blocks, run.record["experiment"]["model"]["num_layers"])
    jobs = []
    for number in figures:
        if number == "6" and tuned:
            jobs.append((number, list(tuned), functools.partial(_fine_tuned, tuned, examples)))
        elif number == "6":
            jobs.append((number, list(trained), functools.partial(_qualitative, trained, examples)))
        elif number == "2":
            jobs.append((number, list(trained), functools.partial(_tradeoff, trained)))
        else:
            for name, run in trained.items():
                jobs.append((number, [name], functools.partial(_of_run, number, run, name, blocks)))
    drawn, lacking = {}, []
    if tuned and (trained or figures != ["6"]):
        lacking.append("fine-tuned runs are in figure 6 only, and that shows no others")
    if not jobs:
        raise ValueError(f"nothing can be drawn: {lacking[0]}")
    make_folder(output)
    with style():
        for number, names, draw in jobs:
            try:
                figure = draw()
            except Lacking as error:
                lacking.append(f"{', '.join(names)}: no figure {number}: {error}")
                continue
            about = {name: made_of(runs[name].record, runs[name].summary) for name in names}
            is_shared = number in "26" or len(trained) == 1
            name = f"figure{number}" if is_shared else f"figure{number}-{names[0]}"
            for file_format in formats:
                path = os.path.join(output, f"{name}.{file_format}")
                drawn[path] = encoded(figure, file_format, json.dumps(about))
    for line in lacking:
        say(line)
    if not drawn:
        raise ValueError(f"nothing can be drawn: {'; '.join(lacking)}")
    for path, content in drawn.items():  # all of them or, if something is damaged, none
        write_atomically(path, content)
    return list(drawn)


def _of_run(number, run, name, blocks):
    """Figure 3, 4 or 5 of a run."""
    if number == "3":
        return activation_figure(run.activations(), name, blocks)
    updates = run.masks()
    if number == "4":
        return sparsity_figure(updates, name)
    return mask_figure(updates, list(updates[-1].kept), COLUMN, PRINT, f"run: {name}")


def _tradeoff(runs):
    """Figure 2's counterpart, for the finished runs with both modalities."""
    found = []
    for name, run in runs.items():
        if run.variant.images and run.variant.text and run.summary:
            found.append((run.record, run.summary["validation"]))
        else:
            say(f"{name}: left out of figure 2: it has one modality only, or is not finished")
    if not found:
        raise Lacking("no finished run has both modalities")
    return tradeoff_figure(points_of(found))


def _qualitative(runs, wanted):
    """All runs on the validation examples of the first run with any; others must fit these."""
    whole = {name: run for name, run in runs.items() if run.step}
    if not whole:
        raise Lacking("there is no checkpoint yet")
    image_rows, text_rows = [], []
    if images := _alike(whole, "images"):
        first = next(iter(images.values()))
        networks = {name: run.trained.network for name, run in images.items()}
        image_rows = image_examples(first.data, first.classes, networks, wanted)
    if texts := _alike(whole, "text"):
        first = next(iter(texts.values()))
        networks = {name: run.trained.network for name, run in texts.items()}
        vocabulary = first.trained.vocabulary
        text_rows = text_examples(first.data, vocabulary, networks, max(1, wanted // 2))
    return qualitative_figure(image_rows, text_rows, list(whole))


def _alike(runs, modality):
    """The runs with a modality that take the same inputs of it as the first of them."""
    users = {name: run for name, run in runs.items() if getattr(run.variant, modality)}
    return _same_as_first(users, lambda run: run.sees(modality), f"the {modality} of figure 6")


def _fine_tuned(runs, wanted):
    """Fine-tuned runs on an image task and on a text task."""
    pages = {}
    for kind, count in (("images", wanted), ("text", max(1, wanted // 2))):
        of_kind = {name: run for name, run in runs.items() if run.kind == kind}
        same = _same_as_first(of_kind, lambda run: run.sees, "figure 6")
        pages[kind] = examples_of(same, count) if same else []
    splits = " and ".join(dict.fromkeys(run.summary["split"] for run in runs.values()))
    return qualitative_figure(pages["images"], pages["text"], list(runs), splits)


def _same_as_first(runs, seen_by, figure):
    """The runs that see what the first one sees."""
    wanted = [seen_by(run) for run in runs.values()][:1]
    same = {name: run for name, run in runs.items() if seen_by(run) in wanted}
    for name in runs.keys() - same.keys():
        say(f"{name}: left out of {figure}: {next(iter(same))} has other examples")
    return same

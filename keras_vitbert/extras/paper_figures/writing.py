"""From runs to files: every figure that can be drawn, and a line for each that cannot."""

import functools
import json
import os

from matplotlib.figure import Figure

from keras_vitbert.extras.paper_figures.examples import examples_of
from keras_vitbert.extras.paper_figures.figures import (
    activation_figure,
    chosen_blocks,
    qualitative_figure,
    sparsity_figure,
)
from keras_vitbert.extras.paper_figures.runs import FineTunedRun, Lacking, PretrainedRun
from keras_vitbert.extras.paper_figures.tradeoffs import points_of, tradeoff_figure
from keras_vitbert.inspection.drawing import COLUMN, PRINT, encoded, mask_figure, style
from keras_vitbert.runs.provenance import run_provenance
from pipelines.command_line import say
from pipelines.files import make_folder, write_atomically


def draw_figures(
    runs: dict[str, PretrainedRun | FineTunedRun],
    output: str,
    figures: list[str],
    formats: list[str],
    blocks: str = "",
    examples: int = 6,
) -> list[str]:
    """Draws figures of runs and writes them; their metadata has the provenance of the runs.

    Args:
        runs: by name.
        output: a folder, made if it does not exist; local or `gs://`.
        figures: of `2` to `6`; 2 and 6 have all runs side by side, the others are drawn for each
            run. Fine-tuned runs appear only in 6, which then shows no others.
        formats: of `png`, `svg`.
        blocks: see `figures.chosen_blocks`.
        examples: images of figure 6; there are half as many texts.
    """
    tuned = {name: run for name, run in runs.items() if isinstance(run, FineTunedRun)}
    trained = {name: run for name, run in runs.items() if isinstance(run, PretrainedRun)}
    for run in trained.values():  # before anything is drawn
        chosen_blocks(blocks, run.config.model.num_layers)
    jobs, drawn, lacking = [], {}, []
    for number in figures:
        if number == "6":
            shown: dict[str, PretrainedRun | FineTunedRun] = {**(tuned or trained)}
            jobs.append((number, list(shown), functools.partial(_examples, shown, examples)))
        elif number == "2" and trained:
            jobs.append((number, list(trained), functools.partial(_tradeoff, trained)))
        else:
            for name, run in trained.items():
                jobs.append(
                    (number, [name], functools.partial(run_figure, number, run, name, blocks))
                )
    if tuned and (trained or figures != ["6"]):
        lacking.append("fine-tuned runs are in figure 6 only, and that shows no others")
    with style():
        for number, names, draw in jobs:
            try:
                figure = draw()
            except Lacking as error:
                lacking.append(f"{', '.join(names)}: no figure {number}: {error}")
                continue
            about = {name: run_provenance(runs[name].record, runs[name].summary) for name in names}
            is_shared = number in "26" or len(trained) == 1
            name = f"figure{number}" if is_shared else f"figure{number}-{names[0]}"
            for file_format in formats:
                path = os.path.join(output, f"{name}.{file_format}")
                drawn[path] = encoded(figure, file_format, json.dumps(about))
    for line in lacking:
        say(line)
    if not drawn:
        raise ValueError(f"nothing can be drawn: {'; '.join(lacking)}")
    make_folder(output)
    for path, content in drawn.items():  # all of them or, if something is damaged, none
        write_atomically(path, content)
    return list(drawn)


def run_figure(number: str, run: PretrainedRun, name: str, blocks: str = "") -> Figure:
    """Figure 3, 4 or 5 of a run."""
    if number == "3":
        return activation_figure(run.activations(), name, blocks)
    updates = run.masks()
    if number == "4":
        return sparsity_figure(updates, name)
    return mask_figure(updates, list(updates[-1].kept), COLUMN, PRINT, f"run: {name}")


def _tradeoff(runs: dict[str, PretrainedRun]) -> Figure:
    """Figure 2's counterpart, for the finished runs with both modalities."""
    shown = []
    for name, run in runs.items():
        if run.variant.images and run.variant.text and run.summary:
            shown.append((run.config, run.summary["validation"]))
        else:
            say(f"{name}: left out of figure 2: it has one modality only, or is not finished")
    if not shown:
        raise Lacking("no finished run has both modalities")
    return tradeoff_figure(points_of(shown))


def _examples(runs: dict[str, PretrainedRun | FineTunedRun], wanted: int) -> Figure:
    """Figure 6: runs on the examples of the first one that has any; others must see the same."""
    runs = {n: run for n, run in runs.items() if isinstance(run, FineTunedRun) or run.step}
    if not runs:
        raise Lacking("there is no checkpoint yet")
    pages = {}
    for modality, count in (("images", wanted), ("text", max(1, wanted // 2))):
        seen = {name: run.sees(modality) for name, run in runs.items()}
        users = [name for name in runs if seen[name] is not None]
        same = [name for name in users if seen[name] == seen[users[0]]]
        for name in users:
            if name not in same:
                where = f"the {modality} of figure 6"
                say(f"{name}: left out of {where}: {same[0]} has other examples")
        alike = {name: runs[name] for name in same}
        pages[modality] = examples_of(alike, modality, count) if alike else []
    splits = " and ".join(dict.fromkeys(run.split for run in runs.values()))
    return qualitative_figure(pages["images"], pages["text"], list(runs), splits)

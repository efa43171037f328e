"""Draws Figures 2 to 6 of the paper from finished runs, as PNG and SVG.

    python -m keras_vitbert.figures --run=DIR [--run=DIR ...] --output=DIR
                                    [--figures=2,3,4,5,6] [--format=png,svg]

Figure 2 shows text metrics against image accuracy, with a point for each way of merging gradients
among the runs, and which are best; it is drawn only if asked for. Figure 3 shows what hidden units
respond to, 4 how sparse the masks are, 5 the masks, and 6 examples with predictions of all runs
side by side. DIR is the folder of a run of pretrain. For Figure 6 as in the paper, it is one of
finetune, and --images gives the folder of the task's images. The files are OUTPUT/figure3.png and
so on; if there are several runs, their names contain the run's name. Exit status: 0 done, 2 bad
flag, or nothing to draw.
"""

import sys

from keras_vitbert.trained.places import require_place
from pipelines.command_line import load_tensorflow, quiet_loading, run
from pipelines.flags import define_flags, parse_flags

FIGURES = ("2", "3", "4", "5", "6")
FORMATS = ("png", "svg")


def main(argv: list[str]) -> list[str]:
    """Runs the command, and returns the files that were written."""
    from absl import flags

    values = define_flags(
        ("output", "", "the folder for the figures"),
        ("figures", ",".join(FIGURES[1:]), "which, such as 2 or 4,5"),
        ("format", ",".join(FORMATS), "png, svg or both"),
        ("blocks", "", "of figure 3, such as 0,5,11, or all (default: first, middle, last)"),
        (
            "images",
            "",
            "validation images in place of the run's own; of fine-tuned runs their data",
        ),
        ("texts", "", "validation texts in place of the run's own"),
        ("cache_dir", "", "folder of prepared sample data (default: ~/.cache/keras_vitbert)"),
        ("examples", 6, "images of figure 6, and half as many texts", 1),
    )
    flags.DEFINE_multi_string(
        "run", [], "the folder of a run; may be given several times", flag_values=values
    )
    parse_flags(values, argv, __doc__ or "", required=("run", "output"))
    for path in values.run:
        require_place(path)
    figures = _items("figures", values.figures, FIGURES)
    formats = _items("format", values.format, FORMATS)

    load_tensorflow()
    with quiet_loading():
        from keras_vitbert.extras.paper_figures.runs import open_runs
        from keras_vitbert.extras.paper_figures.writing import draw_figures

    runs = open_runs(
        values.run, images=values.images, texts=values.texts, cache_dir=values.cache_dir
    )
    written = draw_figures(runs, values.output, figures, formats, values.blocks, values.examples)
    print(*written, sep="\n")
    return written


def _items(flag: str, text: str, known: tuple[str, ...]) -> list[str]:
    """The items of a flag, each once, in the known order."""
    items = {item.strip() for item in text.split(",")}
    if unknown := items.difference(known):
        raise ValueError(f"--{flag}: {min(unknown)!r} is none of {', '.join(known)}")
    return [name for name in known if name in items]


if __name__ == "__main__":
    sys.exit(run(main))

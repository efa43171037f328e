"""Reproduces the paper's tables and figures: plans the runs, runs those missing, writes tables.

    python -m keras_vitbert.reproduce [--scale=sample] --table=1,2,3 --figure=2,3,4,5,6
                                      --ablation=merging [--seeds=N] [--dry_run] [--output_dir=DIR]
    python -m keras_vitbert.reproduce --scale=small --all --cifar10=DIR --books=DIR

`sample` needs no data and shows that everything works; `small` is an experiment for two CPU cores;
`paper` is the paper's, on a TPU: `--pretrain`, `--finetune` and `--probe` hold further flags of
these commands, such as devices and where the data are.

OUTPUT_DIR gets a folder for each run, `results.json` with the result of each run and how it was
made, and `results.md` with the tables. Run again, it resumes where it stopped; machines that share
the folder divide the runs among themselves. A run listed in `results.json` is not repeated, whether
or not its folder still exists. If another run reads that folder, it is made again, and numbers that
differ are named. --repeat=N runs N of the finished fine-tunings (or of the other finished runs, if
none is a fine-tuning) again, with all that they need, in OUTPUT_DIR/repeated, and fails if a number
differs.

Exit status: 0 done, 2 bad flag, file or data, 75 stopped by a signal.
"""

import os
import shlex
import sys

from pipelines.command_line import load_tensorflow, quiet_loading, run
from pipelines.files import check_no_folder, check_no_input, make_folder, write_atomically
from pipelines.flags import define_flags, parse_flags
from pipelines.status import say

SCALES = ("sample", "small", "paper")
_TABLES, _FIGURES, _ABLATIONS = ("1", "2", "3"), ("2", "3", "4", "5", "6"), ("merging",)
_COMMANDS = ("pretrain", "finetune", "probe")
_DATA = ("cifar10", "books", "bert", "vit")


def main(argv):
    """Runs the command.

    Args:
        argv: list of str, without the program's name.

    Returns:
        str, the path of the page; empty for a dry run or a repetition.
    """
    values = define_flags(
        ("scale", "sample", f"one of {', '.join(SCALES)}"),
        ("table", "", f"any of {', '.join(_TABLES)}"),
        ("figure", "", f"any of {', '.join(_FIGURES)}"),
        ("ablation", "", f"any of {', '.join(_ABLATIONS)}"),
        ("all", False, "all of them"),
        ("seeds", 0, "for each row; 0: what the scale has, between 1 and 3", 0),
        ("output_dir", "", "the folder of all runs (default: runs/reproduce-SCALE)"),
        ("results", "", "the file of results, beside its page (default: OUTPUT_DIR/results.json)"),
        ("repeat", 0, "repeat this many finished runs, and compare the numbers", 0),
        ("dry_run", False, "only print what is done, what is missing and how long it takes"),
        ("cifar10", "", "for --scale=small: a folder that holds train/CLASS/*.jpg, CIFAR-10's"),
        ("books", "", "for --scale=small: a folder of plain-text books"),
        ("bert", "", "a BERT of another project, for a row of its own in Table 1"),
        ("vit", "", "likewise a ViT"),
        ("pretrain", "", "further flags of keras_vitbert.pretrain, as in a shell"),
        ("finetune", "", "further flags of keras_vitbert.finetune"),
        ("probe", "", "further flags of keras_vitbert.probe"),
    )
    parse_flags(values, argv, __doc__)
    names = _asked(values)
    if values.scale not in SCALES:
        raise ValueError(f"--scale={values.scale}: give one of {', '.join(SCALES)}")
    output = values.output_dir or os.path.join("runs", f"reproduce-{values.scale}")
    results = values.results or os.path.join(output, "results.json")
    for flag, path in (("output_dir", output), ("results", results)):
        if "://" in path:
            raise ValueError(f"--{flag}={path}: give a local or shared folder, or a mounted bucket")
    page = f"{os.path.splitext(results)[0]}.md"
    if page == results:
        raise ValueError(f"--results={results}: its page is written there; give a name in .json")
    others = {f"keras_vitbert.{name}": _words(name, values[name].value) for name in _COMMANDS}
    load_tensorflow()
    check_no_input(results, [values[name].value for name in _DATA])
    check_no_folder(results)
    with quiet_loading():
        from keras_vitbert.reproduction.reproducing import Reproduction
        from keras_vitbert.reproduction.scales import SCALES as MADE

    asked = Reproduction(
        MADE[values.scale](),
        names,
        values.seeds,
        output,
        results,
        {name: values[name].value for name in ("bert", "vit") if values[name].value},
        others,
    )
    missing = {unit.name for unit in asked.missing()}
    for unit in asked.units:
        state = "missing" if unit.name in missing else "done"
        print(f"{state:8} {unit.name}")
        if values.dry_run and unit.name in missing:
            print(f"         {shlex.join(['python', *unit.command(output, f'{output}/data')])}")
    for line in asked.needed():
        print(line)
    print(f"{len(asked.units) - len(missing)} done, {len(missing)} missing")
    if values.dry_run:
        return ""
    make_folder(os.path.dirname(results) or ".")
    if values.repeat:
        same, differing = asked.repeat(values.repeat, values)
        for line in differing:
            print(line)
        if differing:
            raise ValueError(
                f"numbers that differ from those of {asked.results.path}: {len(differing)}, "
                "see above; another machine or other versions explain differences in the last "
                "digits only"
            )
        print(f"{same} units have the same numbers to the bit")
        return ""
    try:
        asked.run(values)
    finally:  # if it is stopped, with what is done so far
        if asked.results.units:
            _write(page, asked)
    return page


def _write(page, asked):
    """Writes the page and its pictures."""
    from keras_vitbert.inspection.drawing import encoded, style
    from keras_vitbert.reproduction.pictures import picture_of
    from keras_vitbert.reproduction.report import page as page_of

    filled = asked.filled()
    write_atomically(page, page_of(filled, asked.results))
    stem = os.path.splitext(page)[0]
    with style():
        for one in filled:
            if figure := picture_of(one):
                for ending in ("png", "svg"):
                    path = f"{stem}-{one.experiment.name}.{ending}"
                    write_atomically(path, encoded(figure, ending))
    say(f"{page} and its pictures are written")


def _words(flag, text):
    """Splits further flags as a shell does: list of str."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"--{flag}={text}: {error}; quote it as in a shell") from error


def _asked(values):
    """The names of what the flags ask for: list of str."""
    names = []
    for flag, prefix, known in (
        ("table", "table", _TABLES),
        ("figure", "figure", _FIGURES),
        ("ablation", "", _ABLATIONS),
    ):
        given = [part.strip() for part in values[flag].value.split(",") if part.strip()]
        for part in given:
            if part not in known:
                raise ValueError(f"--{flag}={values[flag].value}: give any of {', '.join(known)}")
        names += [f"{prefix}{part}" for part in (known if values.all else given)]
    if not names:
        raise ValueError("give --table, --figure, --ablation or --all")
    return list(dict.fromkeys(names))


if __name__ == "__main__":
    sys.exit(run(main))

"""Reproduces the paper's tables and figures: runs what is missing, and writes tables.

    python -m keras_vitbert.reproduce [--scale=sample] --table=1,2,3 --figure=2,3,4,5,6
                                      --ablation=merging [--seeds=N] [--dry_run] [--output_dir=DIR]
    python -m keras_vitbert.reproduce --scale=transfer --table=controls,answers --cifar10=DIR
                                      --books=DIR

`sample` needs no data and shows that everything works; `transfer` is an experiment for two CPU
cores; `paper` is the paper's, on a TPU. `small` writes the page of what earlier versions ran.

OUTPUT_DIR gets a folder for each run, `results.json` with the result of each run and how it was
made, and `results.md` with the tables. Run again, it resumes where it stopped. A run listed in
`results.json` is not repeated, whether or not its folder still exists, unless another one reads it.

Exit status: 0 done, 2 bad flag, file or data, 75 stopped by a signal.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.sections import flatten
from keras_vitbert.experiments.flags import parse_with_config
from pipelines import flags
from pipelines.command_line import load_tensorflow, quiet_loading, run

if TYPE_CHECKING:
    from absl.flags import FlagValues

    from keras_vitbert.configs.pretraining import Pretraining

SCALES = ("sample", "transfer", "small", "paper")
_KNOWN = {"table": ("1", "2", "3"), "figure": ("2", "3", "4", "5", "6"), "ablation": ("merging",)}
_KNOWN_OF_TRANSFER = {"table": ("controls", "answers")}


def define_flags(values: FlagValues) -> None:
    """Defines the flags other than `--config`, on an `absl.flags.FlagValues`."""
    flags.define_flags(
        ("scale", "sample", f"one of {', '.join(SCALES)}"),
        *((flag, "", f"any of {', '.join(known)}") for flag, known in _KNOWN.items()),
        ("all", False, "all of them"),
        ("seeds", 0, "for each row; 0: what the scale has, between 1 and 3", 0),
        ("output_dir", "", "the folder of all runs (default: runs/reproduce-SCALE)"),
        ("results", "", "the file of results, beside its page (default: OUTPUT_DIR/results.json)"),
        ("parallel", 1, "how many run at a time", 1),
        ("dry_run", False, "only print what is done and what is missing"),
        ("cifar10", "", "for --scale=transfer: a folder that holds train/CLASS/*.jpg, CIFAR-10's"),
        ("books", "", "for --scale=transfer: a folder of plain-text books"),
        ("data_dir", "", "for --scale=paper: TFDS' data folder, of the tasks"),
        ("tpu", None, "of pre-training, as of keras_vitbert.pretrain"),
        ("task_tpu", None, "of fine-tuning and probes"),
        values=values,
    )


def main(argv: list[str]) -> None:
    """Runs the command."""

    def choose(values: FlagValues) -> Pretraining:
        if values.config is not None:
            raise ValueError("--config: a scale has its own config; change its values")
        if values.scale not in SCALES:
            raise ValueError(f"--scale={values.scale}: give one of {', '.join(SCALES)}")
        return _config_of(values.scale)

    about = "--config.KEY=VALUE changes a value of every pre-training, such as where the data are"
    values, config, given = parse_with_config(argv, define_flags, choose, __doc__ or "", about)
    asked = _asked(values)
    output = values.output_dir or os.path.join("runs", f"reproduce-{values.scale}")
    results = values.results or os.path.join(output, "results.json")
    if "://" in output or not results.endswith(".json"):
        raise ValueError(f"--output_dir={output}, --results={results}: a local folder and a .json")
    load_tensorflow()
    with quiet_loading():
        from keras_vitbert.extras.reproduction.page import write_page
        from keras_vitbert.extras.reproduction.plan import Plan, get_scale
        from keras_vitbert.extras.reproduction.running import Results, missing, run_missing

    output = os.path.abspath(output)
    usual, fields = flatten(_config_of(values.scale)), flatten(config).items()
    scale = get_scale(
        values.scale,
        os.path.join(output, "data"),
        # An optimiser that is named brings values of its own.
        {name: value for name, value in fields if name in given or value != usual[name]},
        **{name: getattr(values, name) for name in ("cifar10", "books", "data_dir")},
    )
    tpus = {"pretrain": values.tpu, "finetune": values.task_tpu, "probe": values.task_tpu}
    plan = Plan(scale, output, values.seeds)
    for name in asked:
        plan.add(name)
    results = Results(results, values.scale, output)
    results.require_settings(plan.jobs.values())
    todo = {job.name for job in missing(plan.jobs, results)}
    for name in plan.jobs:
        print(f"{'missing' if name in todo else 'done':8} {name}")
    print(f"{len(plan.jobs) - len(todo)} done, {len(todo)} missing")
    if todo and not scale.config:
        raise ValueError(f"--scale={values.scale}: is not run any more; give results that have all")
    if not values.dry_run:
        try:
            if todo:
                run_missing(plan, results, values.parallel, tpus)
        finally:  # if it is stopped, with what is done so far
            if results.jobs:
                write_page(plan, results)


def _config_of(scale: str) -> Pretraining:
    """The config of a scale's pre-trainings, before the scale changes it."""
    return load_config("small" if scale == "transfer" else scale)


def _asked(values: FlagValues) -> list[str]:
    """The names of the tables and figures that the flags ask for."""
    names, every = [], _KNOWN_OF_TRANSFER if values.scale == "transfer" else _KNOWN
    for flag in _KNOWN:
        known = every.get(flag, ())
        given = [part.strip() for part in getattr(values, flag).split(",") if part.strip()]
        if unknown := set(given) - set(known):
            some = ", ".join(known) or "none"
            raise ValueError(f"--{flag}={min(unknown)}: the scale {values.scale} has {some}")
        parts = known if values.all else dict.fromkeys(given)
        names += [f"{flag}{part}" if part.isdigit() else part for part in parts]
    if not names:
        raise ValueError("give --table, --figure, --ablation or --all")
    return names


if __name__ == "__main__":
    sys.exit(run(main))

"""Probes a frozen encoder on a task: ridge regression and nearest neighbours, in seconds.

    python -m keras_vitbert.probe --checkpoint=DIR|rand --data_dir=DIR | --train=FILE --test=FILE
                                  [--shots=5,25,0] [--output_dir=DIR] [--config.KEY=VALUE ...]
    python -m keras_vitbert.probe --checkpoint=DIR|rand --task=cifar10|...|rte [--data_dir=DIR]

It takes the checkpoints and data of `keras_vitbert.finetune`, and trains only the two classifiers
of scikit-learn, on --shots examples of each class.
Exit status: 0 done, 2 bad flag, file or data.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from typing import TYPE_CHECKING, Any

from keras_vitbert.experiments.flags import (
    INPUT_FLAGS,
    define,
    devices_of,
    inputs_of,
    parse_fine_tuning,
)
from pipelines.command_line import choose_backend, quiet_loading, run
from pipelines.files import check_no_input, make_folder, write_atomically
from pipelines.text_tables import markdown_table

if TYPE_CHECKING:
    from absl.flags import FlagValues


def define_flags(values: FlagValues) -> None:
    """Defines the flags other than `--config`, on an `absl.flags.FlagValues`."""
    define(
        values,
        *INPUT_FLAGS,
        ("shots", "5,25,0", "examples of each class to learn from, comma-separated; 0: all"),
        ("draws", 3, "how many times few-shot examples are drawn", 1),
        ("output_dir", "", "a folder for summary.json"),
    )


def main(argv: list[str]) -> dict[str, Any]:
    """Runs the command; returns the content of `summary.json`."""
    values, config, given = parse_fine_tuning(argv, define_flags, __doc__ or "")
    shots = _shots(values.shots)
    choose_backend(values.backend)
    inputs = inputs_of(values, config)
    with quiet_loading():
        from keras_vitbert.experiments.experiment import probe_task
        from keras_vitbert.experiments.fine_tuning.inputs import Inputs

    path = os.path.join(values.output_dir, "summary.json")
    if values.output_dir:
        check_no_input(path, Inputs(**inputs).paths(config.task_names))
    summary = probe_task(config, shots, values.draws, given, **devices_of(values), **inputs)
    print(_table(summary["splits"]))
    if values.output_dir:
        make_folder(values.output_dir)
        write_atomically(path, json.dumps(summary, indent=1) + "\n")
    return summary


def _shots(text: str) -> list[int]:
    """The numbers of a flag."""
    try:
        shots = [int(part) for part in text.split(",")]
    except ValueError:
        shots = []
    if not shots or min(shots) < 0:
        raise ValueError(f"--shots={text}: give numbers from 0, comma-separated, such as 5,25,0")
    return list(dict.fromkeys(shots))


def _table(splits: dict[str, dict[int, dict[str, list[float]]]]) -> str:
    """The mean accuracies, and their range where examples were drawn several times."""
    rows = []
    for split, by_shots in splits.items():
        for count, kinds in by_shots.items():
            cells = []
            for values in kinds.values():
                spread = f" ({min(values):.4f} to {max(values):.4f})" if len(values) > 1 else ""
                cells.append(f"{statistics.mean(values):.4f}{spread}")
            rows.append([split, count or "all", *cells])
    return markdown_table(["split", "of each class", "ridge regression", "nearest"], rows)


if __name__ == "__main__":
    sys.exit(run(main))

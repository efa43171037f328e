"""Probes a frozen encoder on a task: ridge regression and nearest neighbours, in seconds.

    python -m keras_vitbert.probe --checkpoint=DIR|rand --data_dir=DIR | --train=FILE --test=FILE
                                  [--shots=5,25,0] [--output_dir=DIR] [--config.KEY=VALUE ...]
    python -m keras_vitbert.probe --checkpoint=DIR|rand --task=cifar10|...|rte [--data_dir=DIR]

It takes the checkpoints and data of `keras_vitbert.finetune`, and trains only the two classifiers
of scikit-learn, on --shots examples of each class.
Exit status: 0 done, 2 bad flag, file or data.
"""

import json
import os
import statistics
import sys

from keras_vitbert.fine_tuning import settings
from pipelines import flags
from pipelines.command_line import choose_backend, quiet_loading, run
from pipelines.files import check_no_input, make_folder, write_atomically
from pipelines.text_tables import markdown_table
from tpu.flags import define_flags as define_tpu_flags


def define_flags(values):
    """Defines the flags other than `--config`, on an `absl.flags.FlagValues`."""
    flags.define_flags(
        *settings.INPUT_FLAGS,
        ("shots", "5,25,0", "examples of each class to learn from, comma-separated; 0: all"),
        ("draws", 3, "how many times few-shot examples are drawn", 1),
        ("output_dir", "", "a folder for summary.json"),
        values=values,
    )
    define_tpu_flags(values)


def main(argv):
    """Runs the command; returns the content of `summary.json`."""
    values, config, given = settings.parse(argv, define_flags, __doc__)
    shots = _shots(values.shots)
    choose_backend(values.backend)
    with quiet_loading():
        from keras_vitbert.fine_tuning.opening import Inputs
        from keras_vitbert.fine_tuning.probes import probe_task
        from keras_vitbert.fine_tuning.tasks import find_task
        from keras_vitbert.runs.machine import open_machine

    reads = Inputs(**settings.inputs_of(values))
    path = os.path.join(values.output_dir, "summary.json")
    if values.output_dir:
        check_no_input(path, reads.paths(find_task(config.task)))
    machine = open_machine(values.tpu, values.tpu_address)
    summary = probe_task(config, machine, reads, shots=shots, draws=values.draws, given=given)
    print(_table(summary["splits"]))
    if values.output_dir:
        make_folder(values.output_dir)
        write_atomically(path, json.dumps(summary, indent=1) + "\n")
    return summary


def _shots(text):
    """The numbers of a flag."""
    try:
        shots = [int(part) for part in text.split(",")]
    except ValueError:
        shots = []
    if not shots or min(shots) < 0:
        raise ValueError(f"--shots={text}: give numbers from 0, comma-separated, such as 5,25,0")
    return list(dict.fromkeys(shots))


def _table(found):
    """The mean accuracies, and their range where examples were drawn several times: str."""
    rows = []
    for split, by_shots in found.items():
        for count, kinds in by_shots.items():
            cells = []
            for values in kinds.values():
                spread = f" ({min(values):.4f} to {max(values):.4f})" if len(values) > 1 else ""
                cells.append(f"{statistics.mean(values):.4f}{spread}")
            rows.append([split, count or "all", *cells])
    return markdown_table(["split", "of each class", "ridge regression", "nearest"], rows)


if __name__ == "__main__":
    sys.exit(run(main))

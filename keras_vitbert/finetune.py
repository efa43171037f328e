"""Fine-tunes a checkpoint on a downstream task and reports its scores.

    python -m keras_vitbert.finetune --checkpoint=DIR|rand --data_dir=DIR | --train=FILE
                                     [--test=FILE] [--sweep] [--seeds=5]
                                     [--config.KEY=VALUE ...]
    python -m keras_vitbert.finetune --checkpoint=DIR|rand --images=PLACE --texts=PLACE
    python -m keras_vitbert.finetune --checkpoint=DIR|rand --task=cifar10|...|rte [--data_dir=DIR]
    python -m keras_vitbert.finetune --evaluate_only --checkpoint=FINE_TUNED_DIR --data_dir=DIR

With --images and --texts, or two tasks such as --task=cifar10,sst2, it trains one encoder with a
head for each. Run again, it resumes where it was stopped. Exit status: 0 done, 2 bad flag, file or
data, 3 diverged, 75 stopped by a signal after a checkpoint.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from keras_vitbert.configs.fine_tuning import IMAGES, TEXTS
from keras_vitbert.experiments.flags import (
    INPUT_FLAGS,
    RUN_FLAGS,
    define,
    devices_of,
    inputs_of,
    parse_fine_tuning,
    refuse_given,
    run_options,
)
from pipelines.command_line import choose_backend, quiet_loading, run
from pipelines.tasks import own_data

if TYPE_CHECKING:
    from absl.flags import FlagValues

# Flags that an evaluation does not use.
_OF_TRAINING = (
    *("sweep", "seeds", "dry_run", "output_dir", "architecture", "vocabulary"),
    *("accept_changes", "on_divergence", "max_divergences"),
)


def define_flags(values: FlagValues) -> None:
    """Defines the flags other than `--config`, on an `absl.flags.FlagValues`."""
    define(
        values,
        *INPUT_FLAGS,
        (
            "images",
            "",
            "your own images, as --data_dir; with --texts, one model for both",
        ),
        ("texts", "", "your own texts, likewise"),
        ("output_dir", "", "the run's folder (default: runs/CHECKPOINT-TASK)"),
        ("predictions", "", "a CSV file to write the prediction for each example to"),
        ("sweep", False, "pick the learning rate from --config.grid, on held-out examples"),
        ("seeds", 1, "how many runs are reported", 1),
        ("evaluate_only", False, "evaluate the model of a fine-tuned run, without training"),
        *RUN_FLAGS,
    )


def main(argv: list[str]) -> dict[str, Any]:
    """Runs the command; returns the content of `summary.json`, or the scores of an evaluation."""
    values, config, given = parse_fine_tuning(argv, define_flags, __doc__ or "")
    if values.evaluate_only:
        refuse_given(values, _OF_TRAINING, "with --evaluate_only")
    choose_backend(values.backend)
    inputs = inputs_of(values, None if values.evaluate_only else config)
    inputs["predictions"] = values.predictions
    with quiet_loading():
        from keras_vitbert.experiments.experiment import evaluate_run, open_run

    if values.evaluate_only:
        options = devices_of(values) | {"deterministic": values.deterministic}
        return evaluate_run(config, **options, **inputs)
    opened = open_run(
        config,
        values.output_dir or os.path.join("runs", _label(values, config.task_names)),
        given=frozenset(given),
        sweep=values.sweep,
        seeds=values.seeds,
        **run_options(values),
        **inputs,
    )
    return opened.train(values.dry_run)


def _label(values: FlagValues, task: str) -> str:
    """The name of the run's folder: the checkpoint's, then those of the tasks or of own data."""
    own = {IMAGES: values.images, TEXTS: values.texts}
    names = []
    for name in task.split(","):
        if name in own:
            path = os.path.abspath(own[name] or values.data_dir or values.train)
            stem = os.path.splitext(os.path.basename(path))[0]
            is_usual = stem in own_data.USUAL_NAMES
            name = os.path.basename(os.path.dirname(path)) if is_usual else stem
        names.append(name)
    return "-".join([os.path.basename(os.path.normpath(values.checkpoint)), *names])


if __name__ == "__main__":
    sys.exit(run(main))

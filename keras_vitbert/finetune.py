"""Fine-tunes a checkpoint on a downstream task and reports its scores.

    python -m keras_vitbert.finetune --checkpoint=DIR|rand --data_dir=DIR | --train=FILE
                                     [--test=FILE] [--sweep] [--seeds=5]
                                     [--config.KEY=VALUE ...]
    python -m keras_vitbert.finetune --checkpoint=DIR|rand --task=cifar10|...|rte [--data_dir=DIR]
    python -m keras_vitbert.finetune --evaluate_only --checkpoint=FINE_TUNED_DIR --data_dir=DIR

Run again, it resumes where it was stopped. Exit status: 0 done, 2 bad flag, file or data,
3 diverged, 75 stopped by a signal after a checkpoint.
"""

import functools
import os
import sys

from keras_vitbert.configs.command import ACCEPT_CHANGES, DETERMINISTIC, DIVERGENCE_FLAGS
from keras_vitbert.configs.devices import Devices
from keras_vitbert.configs.fine_tuning import IMAGES, TEXTS
from keras_vitbert.fine_tuning import settings
from pipelines import flags
from pipelines.command_line import choose_backend, quiet_loading, run
from pipelines.tasks import own_data
from tpu.flags import define_flags as define_tpu_flags
from tpu.strategy import wait_for_peers

# Flags that an evaluation does not use.
_OF_TRAINING = (
    *("sweep", "seeds", "dry_run", "output_dir", "architecture", "vocabulary"),
    *("accept_changes", "on_divergence", "max_divergences"),
)


def define_flags(values):
    """Defines the flags other than `--config`, on an `absl.flags.FlagValues`."""
    flags.define_flags(
        *settings.INPUT_FLAGS,
        ("output_dir", "", "the run's folder (default: runs/CHECKPOINT-TASK)"),
        ("predictions", "", "a CSV file to write the prediction for each example to"),
        ("sweep", False, "pick the learning rate from --config.grid, on held-out examples"),
        ("seeds", 1, "how many runs are reported", 1),
        ("evaluate_only", False, "evaluate the model of a fine-tuned run, without training"),
        ("dry_run", False, "only print what was found and would be done"),
        ("accept_changes", "", ACCEPT_CHANGES),
        DETERMINISTIC,
        *DIVERGENCE_FLAGS,
        values=values,
    )
    define_tpu_flags(values)


def main(argv):
    """Runs the command; returns the content of `summary.json`, or the scores of an evaluation."""
    values, config, given = settings.parse(argv, define_flags, __doc__)
    if values.evaluate_only:
        _check_evaluation(values, config)
    on_jax = choose_backend(values.backend) == "jax"
    config.for_devices(Devices(values.tpu is not None, on_jax=on_jax))  # before it connects
    if values.tpu is None:
        wait_for_peers(values.wait_seconds)
    with quiet_loading():
        from keras_vitbert.experiments import open_run
        from keras_vitbert.fine_tuning.search import table
        from keras_vitbert.runs.divergence import Policy
        from keras_vitbert.runs.machine import open_machine

    machine = open_machine(values.tpu, values.tpu_address, config.sharding, values.deterministic)
    inputs = settings.inputs_of(values)
    if values.evaluate_only:
        return _evaluate(values, config, machine, inputs)
    output_dir = values.output_dir or os.path.join("runs", _label(values, config.task))
    opened = open_run(
        config,
        output_dir,
        machine,
        predictions=values.predictions,
        given=frozenset(given),
        sweep=values.sweep,
        seeds=values.seeds,
        divergence=Policy(values.on_divergence, values.max_divergences),
        accepted=tuple(values.accept_changes.split(",")),
        **inputs,
    )
    summary = opened.train(values.dry_run)
    if summary:
        print(table(summary))
        print(f"  details: {output_dir}/summary.json; tensorboard --logdir {output_dir}")
    return summary


def _evaluate(values, config, machine, inputs):
    from keras_vitbert.fine_tuning.evaluate_only import evaluate_saved
    from keras_vitbert.fine_tuning.opening import Inputs
    from keras_vitbert.fine_tuning.task_data import open_task
    from keras_vitbert.fine_tuning.tasks import find_task
    from pipelines.files import check_output_file

    task = find_task(config.task)
    if values.predictions:
        check_output_file(values.predictions, Inputs(**inputs).paths(task), "")
    options = ("data_dir", "download", "skip_damaged", "files")
    open_data = functools.partial(open_task, task, **{name: inputs[name] for name in options})
    predictions = values.predictions if machine.workers.is_chief else ""
    config = config.for_devices(machine.devices)
    with machine.workers.watched():
        return evaluate_saved(values.checkpoint, config, open_data, machine.strategy, predictions)


def _label(values, task):
    """The name of the run's folder: the checkpoint's, then that of the task or the user's data."""
    name = task
    if task in (IMAGES, TEXTS):
        path = os.path.abspath(values.data_dir or values.train)
        stem = os.path.splitext(os.path.basename(path))[0]
        name = stem if stem not in own_data.USUAL_NAMES else os.path.basename(os.path.dirname(path))
    return f"{os.path.basename(os.path.normpath(values.checkpoint))}-{name}"


def _check_evaluation(values, config):
    """Refuses flags that an evaluation does not use."""
    for flag in _OF_TRAINING:
        if values[flag].value != values[flag].default:
            raise ValueError(f"--{flag} has no effect with --evaluate_only; leave it out")
    for field in config.changed():
        if field not in ("evaluation_batch", "test_examples") and not field.startswith("data."):
            raise ValueError(f"{field}: has no effect with --evaluate_only, which uses the run's")


if __name__ == "__main__":
    sys.exit(run(main))

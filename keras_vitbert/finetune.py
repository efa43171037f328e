"""Fine-tunes a checkpoint on a downstream task and reports its scores.

    python -m keras_vitbert.finetune --checkpoint=DIR|rand --data_dir=DIR | --train=FILE
                                     [--test=FILE] [--sweep] [--seeds=5] [--quick]
                                     [--config.KEY=VALUE ...]
    python -m keras_vitbert.finetune --checkpoint=DIR|rand --task=cifar10|...|rte [--data_dir=DIR]
    python -m keras_vitbert.finetune --evaluate_only --checkpoint=FINE_TUNED_DIR --data_dir=DIR

Run again, it resumes where it was stopped. Exit status: 0 done, 2 bad flag, file or data,
3 diverged, 75 stopped by a signal after a checkpoint.
"""

import functools
import os
import sys

from keras_vitbert.configs.devices import most_steps_an_execution
from keras_vitbert.configs.fine_tuning import open_keys
from keras_vitbert.configs.memory import moments_of, require_memory, shards_of
from keras_vitbert.configs.overrides import (
    ACCEPT_CHANGES,
    DETERMINISTIC,
    DIVERGENCE_FLAGS,
    QUICK,
)
from keras_vitbert.fine_tuning import settings, tasks
from pipelines import flags
from pipelines.command_line import choose_backend, quiet_loading, run, say
from pipelines.files import check_output_file
from pipelines.status import doing
from pipelines.tasks import own_data
from tpu.devices import (
    enable_determinism,
    gpu_capabilities,
    holder_of_weights,
    is_shared,
)
from tpu.flags import define_flags as define_tpu_flags
from tpu.peak_flops import peak_flops
from tpu.strategy import get_strategy, wait_for_peers


def define_flags(values):
    """Defines the flags other than `--config`.

    Args:
        values: `absl.flags.FlagValues`.
    """
    flags.define_flags(
        *settings.INPUT_FLAGS,
        ("output_dir", "", "the run's folder (default: runs/CHECKPOINT-TASK)"),
        QUICK,
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
    """Runs the command.

    Args:
        argv: list of str, without the program's name.

    Returns:
        dict, the content of `summary.json`, or the scores of `--evaluate_only`.
    """
    values, task, config, given = settings.parse(argv, define_flags, __doc__)
    settings.require_checkpoint(values)
    if values.evaluate_only:
        _check_evaluation(values, task, config, given)
    on_tpu = values.tpu is not None
    on_jax = choose_backend(values.backend) == "jax"
    settings.check_for_xla(config, on_tpu, on_jax)  # before connecting to devices
    if values.tpu is None:
        wait_for_peers(values.wait_seconds)
    with quiet_loading():
        strategy = get_strategy(values.tpu, values.tpu_address, config.sharding)
        if values.deterministic:
            enable_determinism()
        from keras_vitbert.runs.workers import Workers

        workers = Workers(strategy)
    config = settings.for_devices(config, on_tpu, gpu_capabilities(), is_shared(strategy), on_jax)
    with workers.watched():
        return _fine_tune(values, task, config, given, strategy, workers)


def _fine_tune(values, task, config, given, strategy, workers):
    with quiet_loading():
        from keras_vitbert.fine_tuning import overview, prediction_files, recommended
        from keras_vitbert.fine_tuning.evaluate_only import evaluate_saved
        from keras_vitbert.fine_tuning.pretrained import RANDOM, open_pretrained
        from keras_vitbert.fine_tuning.search import (
            FineTuningRun,
            fine_tune,
            table,
        )
        from keras_vitbert.fine_tuning.task_data import open_task
        from keras_vitbert.runs.divergence import policy_of
        from keras_vitbert.runs.overview import table as table_of
        from keras_vitbert.runs.run_folder import RunFolder
        from pipelines.text.casing import case_of

    open_data = functools.partial(
        open_task,
        task,
        data_dir=values.data_dir,
        download=values.download,
        max_bad_records=values.max_bad_records,
        files=tasks.files_of(values),
    )
    output_dir = values.output_dir or os.path.join("runs", _label(values, task))
    if values.predictions:
        run = "" if values.evaluate_only else output_dir
        check_output_file(values.predictions, "predictions", tasks.inputs_of(values, task), run)
    policy = policy_of(values)
    if values.evaluate_only:
        predictions = values.predictions if workers.is_chief else ""
        return evaluate_saved(
            values.checkpoint, task.name, config, open_data, strategy, predictions
        )
    architecture = values.architecture
    if values.quick and values.checkpoint == RANDOM and not architecture:
        architecture = "sample"  # small enough to train from scratch in that time
        say("--quick: --architecture=sample")
    with doing(f"opening {values.checkpoint}"):
        pretrained = open_pretrained(values.checkpoint, architecture, values.vocabulary, task.kind)
    if values.quick:
        trials = values.seeds + len(config.grid) * values.sweep
        config = settings.quick_for(config, task, given, pretrained.model, trials)
    if task.kind == "text":
        where = values.vocabulary or values.checkpoint
        config.data.case = case_of(where, pretrained.vocabulary, config.data.case, pretrained.case)
    folder = RunFolder(output_dir, workers.is_chief)
    record = folder.record()
    recorded = record and record["config"]
    chosen, pictures = [], None

    def fits(config):
        model = pretrained.fine_tuned_model(task.kind, config)
        _require_memory(model, config, task.kind, workers.count, strategy)

    def choose(store):
        nonlocal pictures
        pictures = recommended.look_at(store)
        chosen.extend(
            recommended.choose(
                *(config, pretrained.model, store.count, pictures),
                replicas=strategy.num_replicas_in_sync,
                fits=fits,
                recorded=recorded,
            )
        )

    if "image_size" not in open_keys(config):  # else it follows from the data
        fits(config)
    parts_are_open = given.parts and not config.steps
    max_length = 0
    if task.kind == "text":
        max_length = pretrained.fine_tuned_model("text", config)["max_sequence_length"]
    with doing("opening the data"):
        data = open_data(config, pretrained.vocabulary, max_length, choose=choose)
    if task.kind == "text":
        chosen = recommended.choose_for_texts(config, pretrained.model, data.train.count, recorded)
    fits(config)
    if parts_are_open:
        config = settings.with_parts(config, task, given, data.train.count)
    run = FineTuningRun(
        *(config, folder, workers, strategy, data, task, pretrained),
        most_executed=most_steps_an_execution(values.tpu is not None, gpu_capabilities()),
        divergence=policy,
        accepted=tuple(values.accept_changes.split(",")),
        peak_flops=peak_flops(strategy, config.dtype, values.tpu),
        rate_from=_rate_from(given, chosen),
    )
    model = pretrained.fine_tuned_model(task.kind, config)
    trials = len(config.grid) if values.sweep else 0, values.seeds
    rows = overview.rows(run, model, chosen, pictures, trials)
    summary = fine_tune(
        run, values.sweep, values.seeds, lambda: print(table_of(rows)), values.dry_run
    )
    if values.dry_run:
        return summary
    if values.predictions and workers.is_chief:
        prediction_files.collect(values.predictions, output_dir, summary)
    print(table(summary))
    print(f"  details: {output_dir}/summary.json; tensorboard --logdir {output_dir}")
    return summary


def _label(values, task):
    """The name of the run's folder: the checkpoint's, then that of the task or the user's data."""
    name = task.name
    if not task.tfds:
        path = os.path.abspath(values.data_dir or values.train)
        stem = os.path.splitext(os.path.basename(path))[0]
        name = stem if stem not in own_data.USUAL_NAMES else os.path.basename(os.path.dirname(path))
    return f"{os.path.basename(os.path.normpath(values.checkpoint))}-{name}"


def _rate_from(given, chosen):
    """Where a learning rate comes from that no sweep picks: str."""
    key = "optimizer.learning_rate"
    if key in chosen:  # also where 0 is given, which asks for that
        return "chosen for these data"
    return "given" if key in given.keys else "the task's own"


def _require_memory(model, config, kind, workers, strategy):
    """Refuses what does not fit into memory, in training or in evaluation."""
    length = 0 if kind == "images" else min([*config.buckets, model["max_sequence_length"]])
    sizes = {"image_size": "--config.image_size", "max_sequence_length": "--config.max_length"}
    for batch in ("batch", "evaluation_batch"):
        require_memory(
            model,
            # A batch that is chosen later is at least one image.
            **{"images" if kind == "images" else "texts": config[batch] or 1},
            text_length=length,
            workers=workers * (config.accumulation if batch == "batch" else 1),
            moments=moments_of(config) if batch == "batch" and not config.lora_rank else None,
            on=holder_of_weights(strategy),
            shards=shards_of(config, strategy.num_replicas_in_sync),
            flags={**sizes, **dict.fromkeys(("images", "texts"), f"--config.{batch}")},
        )


def _check_evaluation(values, task, config, given):
    """Refuses flags that an evaluation does not use."""
    unused = (
        *("quick", "sweep", "seeds", "dry_run", "output_dir", "architecture", "vocabulary"),
        *("accept_changes", "on_divergence", "max_divergences"),
    )
    for flag in unused:
        if values[flag].value != values[flag].default:
            raise ValueError(f"--{flag} has no effect with --evaluate_only; leave it out")
    for key in [*given.parts, *settings.changed_keys(config, task)]:
        if key not in ("evaluation_batch", "test_examples") and not key.startswith("data."):
            raise ValueError(
                f"--config.{key} has no effect with --evaluate_only, which uses the run's; "
                "leave it out"
            )


if __name__ == "__main__":
    sys.exit(run(main))

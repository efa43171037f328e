"""Proves a run on a TPU before one is paid for: compiles its own steps by the TPU's compiler.

    python -m tpu.aot --tpu=v3-128 [--config=paper|sample|FILE.py] [--variant=vitbert]
                      [--compare=joint] [--programs=train] [--json=FILE] [--jobs=1]
                      [--config.KEY=VALUE ...]
    python -m tpu.aot --tpu=v3-8 --task=cifar10|...|rte [--architecture=paper|DIR] [...]

It needs the extra `[aot]`, but no TPU, data or network. It prints whether the programs of a run
(training, mask update, validation; with teachers, dropout, metrics and clipping) fit into memory,
what they compute, move and sum, and the least time of a step. Exit status: 0 it fits, 2 it does
not, or a flag is wrong.
"""

import json
import os
import sys

from keras_vitbert.configs import variants
from keras_vitbert.configs.checks import require_shares
from keras_vitbert.configs.fine_tuning import open_keys
from keras_vitbert.configs.memory import (
    moments_of,
    require_memory,
    require_pretraining_memory,
)
from keras_vitbert.configs.overrides import parse_with_config
from keras_vitbert.configs.parts import OF_FINE_TUNING, OF_PRETRAINING, resolve_parts
from keras_vitbert.configs.pretraining import check_config, for_devices, load_config, with_sizes
from keras_vitbert.fine_tuning import settings as fine_tuning_settings
from keras_vitbert.fine_tuning.tasks import find_task
from keras_vitbert.pretraining import settings
from pipelines import command_line
from pipelines.command_line import UserError, load_tensorflow, quiet_loading, run
from tpu.ahead_of_time import report
from tpu.ahead_of_time.compiler import check_installed
from tpu.ahead_of_time.proof import Subject, compare, prove
from tpu.slices import find_slice

_STEPS_OF_EPOCHS = 1_000  # of a text task, whose real number depends on the data


def define_flags(values):
    """Defines the flags other than `--config`.

    Args:
        values: `absl.flags.FlagValues` to define them in.
    """
    jobs = "how many programs are compiled at once; the paper's take some 9 GB each"
    command_line.define_flags(
        ("tpu", "", "the accelerator type, such as v3-128"),
        ("variant", "vitbert", "the variant of pre-training"),
        ("compare", "", "another variant, to compare the training step with"),
        ("task", "", "prove a fine-tuning on this task instead of a pre-training"),
        ("architecture", "", "of a task: a run's folder, or a config of pretrain (default: paper)"),
        ("programs", "", "which programs, comma-separated, such as train (default: all)"),
        ("json", "", "a file to write the whole outcome to"),
        ("num_classes", 0, "of a task with your own data", 0),
        ("jobs", 1, jobs, 1),
        values=values,
    )


def main(argv):
    """Runs the command.

    Args:
        argv: list of str, without the program's name.

    Returns:
        dict, the content of `--json`.

    Raises:
        UserError: a flag is wrong, or the run does not fit.
    """
    values, config, given = parse_with_config(
        argv,
        define_flags,
        _choose_config,
        __doc__,
        settings.CONFIG_HELP,
        {*OF_PRETRAINING, *OF_FINE_TUNING},
    )
    read = _fine_tuning if values.task else _pretraining
    slice_, subject, other = read(values, config, given)
    check_installed()
    if values.json and not os.path.isdir(os.path.dirname(values.json) or "."):
        raise UserError(f"--json={values.json}: there is no such folder; make it first")
    load_tensorflow()
    outcome = prove(subject, slice_, values.jobs, tuple(filter(None, values.programs.split(","))))
    train = outcome["programs"].get("train")
    if other is not None and train and train["fits"]:
        outcome["compared"] = compare(train, other, values.compare, slice_)
    if values.json:
        with open(values.json, "w") as file:
            json.dump(outcome, file, indent=2)
    print(report.table(outcome))
    if not outcome["memory"]["fits"]:
        raise UserError(
            f"--tpu={slice_.accelerator_type}: it does not fit; use a smaller batch, a smaller "
            "model, or a larger TPU"
        )
    return outcome


# --- what is proven -------------------------------------------------------------------------------


def _choose_config(values, for_help):
    if values.task:
        return fine_tuning_settings.choose_config(values)
    return load_config(settings.config_name(values))


def _pretraining(values, config, given):
    check_config(config, conflicts=False)
    config = resolve_parts(config, given)
    check_config(config)
    for flag in ("architecture", "num_classes"):
        if getattr(values, flag):
            raise UserError(f"--{flag} goes with --task; leave it out")
    slice_ = find_slice(values.tpu)
    config = with_sizes(for_devices(config, on_tpu=True))
    name = settings.config_label(values)

    def subject(variant_name, flag="variant"):
        variant = variants.find_variant(variant_name, flag)
        variants.check_masks(config, variant)
        variants.check_shares(config, variant, slice_.replicas)
        require_pretraining_memory(config, variant, slice_.replicas, "tpu")
        applied = variants.apply_variant(config, variant)
        keys = {"images": "image_batch"} if variant.images else {}
        keys |= {"texts": "text_batch"} if variant.text else {}

        def programs(strategy, batch):
            from tpu.step_programs import pretraining_programs

            changed = applied.copy_and_resolve_references()
            changed.update({keys[kind]: count for kind, count in batch.items()})
            return pretraining_programs(changed, variant, strategy)

        return Subject(
            f"{variant_name}, {name}, {config.dtype}",
            {kind: config[key] for kind, key in keys.items()},
            keys,
            config.model.max_sequence_length,
            config.steps,
            programs,
        )

    other = subject(values.compare, "compare") if values.compare else None
    return slice_, subject(values.variant), other


def _fine_tuning(values, config, given):
    task = find_task(values.task)
    fine_tuning_settings.check_config(config, task, conflicts=False)
    config = resolve_parts(config, given)
    fine_tuning_settings.check_config(config, task)
    if values.compare:
        raise UserError("--compare is for pre-training; leave it out")
    slice_ = find_slice(values.tpu)
    num_classes = values.num_classes or task.num_classes
    if not num_classes:
        raise UserError(
            f"--task={values.task}: how many classes there are depends on your data; give "
            "--num_classes"
        )
    if keys := {"image_size", "batch"}.intersection(open_keys(config)):
        flags = " and ".join(f"--config.{key}" for key in sorted(keys))
        raise UserError(f"--task={values.task}: {flags} depend on your images; give {flags}")
    config = fine_tuning_settings.for_devices(config, on_tpu=True)
    config.steps = config.steps or _STEPS_OF_EPOCHS
    mixed = task.kind == "images" and (config.images.mixup or config.images.cutmix)
    require_shares(config, "batch", slice_.replicas, mixed)
    load_tensorflow()
    with quiet_loading():
        from keras_vitbert.fine_tuning.pretrained import RANDOM, open_pretrained
    pretrained = open_pretrained(RANDOM, values.architecture)
    model = pretrained.fine_tuned_model(task.kind, config)
    kind = "images" if task.kind == "images" else "texts"
    sizes = {"image_size": "--config.image_size", kind: "--config.batch"}
    batch = {kind: config.batch}
    require_memory(
        model,
        **batch,
        workers=slice_.replicas * config.accumulation,
        moments=moments_of(config),
        on="tpu",
        flags=sizes,
    )

    def programs(strategy, batch):
        from tpu.step_programs import fine_tuning_programs

        changed = config.copy_and_resolve_references()
        changed.batch = batch[kind]
        return fine_tuning_programs(changed, pretrained, task.kind, num_classes, strategy)

    subject = Subject(
        f"fine-tuning on {values.task}, {config.dtype}",
        {kind: config.batch},
        {kind: "batch"},
        model["max_sequence_length"],
        config.steps,
        programs,
    )
    return slice_, subject, None


if __name__ == "__main__":
    sys.exit(run(main))

"""Proves a run before you pay for a TPU or a GPU: compiles its own steps with the TPU's compiler.

    python -m keras_vitbert.aot --tpu=v3-128 [--config=paper|sample|FILE.py] [--variant=vitbert]
                                [--compare=joint] [--programs=train] [--explain] [--json=FILE]
                                [--jobs=1] [--config.KEY=VALUE ...]
    python -m keras_vitbert.aot --tpu=v3-8 --task=cifar10|...|rte [--architecture=paper|DIR] [...]
    python -m keras_vitbert.aot --gpu=16,24,80 [--config=paper|sample|FILE.py] [...]
    python -m keras_vitbert.aot MODULE:FUNCTION --tpu=v3-8 [...]       # a Keras model of your own

It needs no TPU, GPU, data or network; for TPUs it needs the extra `[aot]`. It prints whether the
programs of a run (training, mask update, validation; with teachers, dropout, metrics and clipping)
fit into memory. For a TPU it also prints what they compute, move and sum, and the least time of a
step. For one GPU of each of several sizes (GiB) it prints the fewest parts that a step must be
divided into. Exit status: 0 if the run fits, 2 if it does not or if a flag is wrong.
"""

import json
import os
import sys

from keras_vitbert.ahead_of_time import explanation, gpu, report
from keras_vitbert.ahead_of_time.compiler import check_installed
from keras_vitbert.ahead_of_time.programs import OwnStep
from keras_vitbert.ahead_of_time.proof import Subject, compare, prove
from keras_vitbert.configs import variants
from keras_vitbert.configs.checks import batch_unit, require_shares
from keras_vitbert.configs.fine_tuning import open_keys
from keras_vitbert.configs.memory import (
    moments_of,
    require_memory,
    require_pretraining_memory,
    shards_of,
)
from keras_vitbert.configs.overrides import parse_with_config
from keras_vitbert.configs.parts import OF_FINE_TUNING, OF_PRETRAINING, resolve_parts
from keras_vitbert.configs.pretraining import check_config, for_devices, load_config, with_sizes
from keras_vitbert.fine_tuning import settings as fine_tuning_settings
from keras_vitbert.fine_tuning.tasks import find_task
from keras_vitbert.pretraining import settings
from pipelines import flags
from pipelines.command_line import choose_backend, load_tensorflow, quiet_loading, run
from pipelines.files import check_output_file, write_atomically
from tpu.flags import BACKEND
from tpu.slices import find_slice

_TPU = "tpu", "", "the accelerator type, such as v3-128"
_REPORT = (
    ("programs", "", "which programs, comma-separated, such as train (default: all)"),
    ("explain", False, "for TPUs: how much each part of a step moves and computes"),
    ("json", "", "a file to write the whole outcome to"),
    ("jobs", 1, "how many programs are compiled at once; the paper's take some 13 GB each", 1),
)
_STEPS_OF_EPOCHS = 1_000  # for a text task, whose real number of steps depends on the data


def define_flags(values):
    """Defines the flags other than `--config`.

    Args:
        values: `absl.flags.FlagValues` to define them in.
    """
    flags.define_flags(
        _TPU,
        ("gpu", "", "GPU memory sizes in GiB, comma-separated: proves the run on one GPU of each"),
        BACKEND,
        ("variant", "vitbert", "the variant of pre-training"),
        ("compare", "", "another variant, to compare the training step with"),
        ("task", "", "prove a fine-tuning on this task instead of a pre-training"),
        ("architecture", "", "of a task: a run's folder, or a config of pretrain (default: paper)"),
        ("num_classes", 0, "of a task with your own data", 0),
        *_REPORT,
        values=values,
    )


def main(argv):
    """Runs the command.

    Args:
        argv: list of str, without the program's name.

    Returns:
        dict, the content of `--json`.

    Raises:
        ValueError: a flag is wrong, or the run does not fit.
    """
    if argv and not argv[0].startswith("-"):
        return _own(argv[0], argv[1:])
    values, config, given = parse_with_config(
        argv,
        define_flags,
        _choose_config,
        __doc__,
        settings.CONFIG_HELP,
        {*OF_PRETRAINING, *OF_FINE_TUNING},
    )
    on_jax = choose_backend(values.backend) == "jax"
    _refuse_ignored(values, on_jax)
    read = _fine_tuning if values.task else _pretraining
    sizes = _gpu_sizes(values.gpu)
    slice_, subject, other = read(values, config, given, on_jax)
    if not sizes:
        check_installed()
    _load(values, values.architecture, *filter(os.path.isfile, [values.config or ""]))
    return _on_gpus(values, subject, sizes) if sizes else _on_tpu(values, subject, slice_, other)


def _own(name, argv):
    """The proof of the user's own model or step."""
    values = flags.define_flags(_TPU, *_REPORT)
    flags.parse_flags(values, argv, __doc__, required=("tpu",))
    slice_ = find_slice(values.tpu)
    check_installed()
    _load(values, name.partition(":")[0].replace(".", "/") + ".py")
    step = OwnStep(name)
    batch, units = {"examples": step.examples}, {"examples": slice_.replicas}
    subject = Subject(name, batch, {"examples": "examples"}, units, 0, 0, step.programs)
    return _on_tpu(values, subject, slice_)


def _load(values, *inputs):
    load_tensorflow()
    if values.json:
        check_output_file(values.json, "json", inputs)


def _on_tpu(values, subject, slice_, other=None):
    outcome = prove(subject, slice_, values.jobs, _only(values))
    train = outcome["programs"].get("train")
    refusal = None
    if other is not None and train and train["fits"]:
        try:
            outcome["compared"] = compare(train, other, values.compare, slice_)
        except ValueError as error:  # what is proven counts all the same
            refusal = error
    print(report.table(outcome))
    if values.explain:
        for name, result in outcome["programs"].items():
            if result["fits"]:
                print("", *explanation.lines_of(name, result), sep="\n")
    _write(values, outcome)
    if not outcome["memory"]["fits"]:
        raise ValueError(
            f"--tpu={slice_.accelerator_type}: it does not fit; use a smaller batch, a smaller "
            "model, or a larger TPU"
        )
    if refusal:
        raise refusal
    return outcome


def _on_gpus(values, subject, sizes):
    outcome = gpu.prove(subject, sizes, _only(values))
    print(gpu.table(outcome))
    _write(values, outcome)
    if not all(found["parts"] for found in outcome["gpus"]):
        raise ValueError(
            f"--gpu={values.gpu}: it does not fit on all of them; give --config.remat, a smaller "
            "model, or larger GPUs"
        )
    return outcome


def _refuse_ignored(values, on_jax):
    """Refuses flags that the others leave without effect."""
    ignored = {
        "gpu": values.tpu or on_jax,
        "explain": values.gpu,
        "compare": values.gpu or values.task or "train" not in (_only(values) or ["train"]),
        "architecture": not values.task,
        "num_classes": not values.task,
    }
    for name, is_ignored in ignored.items():
        if is_ignored and getattr(values, name):
            raise ValueError(f"--{name} has no effect with the other flags or this backend")


def _gpu_sizes(text):
    """The sizes in `--gpu`: list of int."""
    sizes = text.split(",") if text else []
    for size in sizes:
        if not size.isdecimal():
            raise ValueError(f"--gpu={text}: {size!r} is not a memory size in GiB")
    return [int(size) for size in sizes]


def _only(values):
    """The names in `--programs`. Which of them a run has is known when it is built."""
    return tuple(filter(None, values.programs.split(",")))


def _write(values, outcome):
    if values.json:
        write_atomically(values.json, json.dumps(outcome, indent=2))


# --- what is proven -------------------------------------------------------------------------------


def _choose_config(values, for_help):
    if values.task:
        return fine_tuning_settings.choose_config(values)
    return load_config(settings.config_name(values))


def _pretraining(values, config, given, on_jax):
    check_config(config, conflicts=False)
    config = resolve_parts(config, given)
    check_config(config)
    slice_, replicas, on = _where(values)
    config = with_sizes(for_devices(config, on_tpu=on == "tpu", on_jax=on_jax))
    name, images = settings.config_label(values), config.data.images
    units = {
        "images": batch_unit(config, replicas, images.mixup or images.cutmix),
        "texts": batch_unit(config, replicas),
    }

    def subject(variant_name, flag="variant"):
        variant = variants.find_variant(variant_name, flag)
        variants.check_masks(config, variant)
        variants.check_shares(config, variant, replicas)
        require_pretraining_memory(config, variant, replicas, on, replicas=replicas)
        applied = variants.apply_variant(config, variant)
        keys = {"images": "image_batch"} if variant.images else {}
        keys |= {"texts": "text_batch"} if variant.text else {}

        def programs(strategy, changes):
            from keras_vitbert.ahead_of_time.step_programs import pretraining_programs

            changed = applied.copy_and_resolve_references()
            changed.update(changes)
            return pretraining_programs(changed, variant, strategy)

        return Subject(
            f"{variant_name}, {name}, {config.dtype}{_of_jax(config, on_jax)}",
            {kind: config[key] for kind, key in keys.items()},
            keys,
            units,
            config.model.max_sequence_length,
            config.steps,
            programs,
            config.accumulation,
            on_jax,
            config.sharding,
        )

    other = subject(values.compare, "compare") if values.compare else None
    return slice_, subject(values.variant), other


def _of_jax(config, on_jax):
    """What the table says about the backend."""
    return f", JAX, {config.sharding}" if on_jax else ""


def _fine_tuning(values, config, given, on_jax):
    task = find_task(values.task)
    fine_tuning_settings.check_config(config, task, conflicts=False)
    config = resolve_parts(config, given)
    fine_tuning_settings.check_config(config, task)
    slice_, replicas, on = _where(values)
    num_classes = values.num_classes or task.num_classes
    if not num_classes:
        raise ValueError(
            f"--task={values.task}: the number of classes depends on your data; give --num_classes"
        )
    if keys := {"image_size", "batch"}.intersection(open_keys(config)):
        flags = " and ".join(f"--config.{key}" for key in sorted(keys))
        raise ValueError(f"--task={values.task}: {flags} depend on your images; give {flags}")
    config = fine_tuning_settings.for_devices(config, on_tpu=on == "tpu", on_jax=on_jax)
    if "buckets" in config:
        config.buckets = ()  # the longest texts need the most
    config.steps = config.steps or _STEPS_OF_EPOCHS
    mixed = task.kind == "images" and (config.images.mixup or config.images.cutmix)
    require_shares(config, "batch", replicas, mixed)
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
        workers=replicas * config.accumulation,
        moments=moments_of(config),
        on=on,
        shards=shards_of(config, replicas),
        flags=sizes,
    )

    def programs(strategy, changes):
        from keras_vitbert.ahead_of_time.step_programs import fine_tuning_programs

        changed = config.copy_and_resolve_references()
        changed.update(changes)
        return fine_tuning_programs(changed, pretrained, task.kind, num_classes, strategy)

    subject = Subject(
        f"fine-tuning on {values.task}, {config.dtype}{_of_jax(config, on_jax)}",
        {kind: config.batch},
        {kind: "batch"},
        {kind: batch_unit(config, replicas, mixed)},
        model["max_sequence_length"],
        config.steps,
        programs,
        config.accumulation,
        on_jax,
        config.sharding,
    )
    return slice_, subject, None


def _where(values):
    """The slice or None, its replicas, and the kind of device."""
    if values.gpu:
        return None, 1, "gpu"
    slice_ = find_slice(values.tpu)
    return slice_, slice_.replicas, "tpu"


if __name__ == "__main__":
    sys.exit(run(main))

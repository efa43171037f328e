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
from keras_vitbert.configs.devices import Devices, batch_unit
from keras_vitbert.configs.fine_tuning import FineTuning, get_config
from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.fine_tuning.tasks import find_task
from keras_vitbert.flags import PRETRAINING_HELP, config_label, config_name, parse_with_config
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
    values, config, _ = parse_with_config(
        argv, define_flags, _choose_config, __doc__, PRETRAINING_HELP
    )
    on_jax = choose_backend(values.backend) == "jax"
    _refuse_ignored(values, on_jax)
    read = _fine_tuning if values.task else _pretraining
    sizes = _gpu_sizes(values.gpu)
    slice_, subject, other = read(values, config, on_jax)
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
        check_output_file(values.json, inputs)


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
        task = find_task(values.task)
        return get_config(task.name, task.kind)
    return load_config(config_name(values)).with_values({"variant": values.variant})


def _pretraining(values, config: Pretraining, on_jax: bool):
    slice_, devices = _where(values, on_jax)
    images, name = config.data.images, config_label(values)
    units = {
        "images": batch_unit(devices.replicas, config.accumulation, images.in_pairs),
        "texts": batch_unit(devices.replicas, config.accumulation),
    }

    def subject(variant):
        applied = config.with_values({"variant": variant}).with_sizes().as_variant(variant)
        applied = applied.for_devices(devices)
        fields = {"images": "image_batch"} if applied.parts.images else {}
        fields |= {"texts": "text_batch"} if applied.parts.text else {}

        def programs(strategy, changes):
            from keras_vitbert.ahead_of_time.step_programs import pretraining_programs

            return pretraining_programs(applied.with_values(changes), strategy)

        return Subject(
            f"{variant}, {name}, {applied.dtype}{_of_jax(config, on_jax)}",
            {kind: applied.value(field) for kind, field in fields.items()},
            fields,
            units,
            applied.model.max_sequence_length,
            config.steps,
            programs,
            config.accumulation,
            on_jax,
            config.sharding,
        )

    return slice_, subject(values.variant), subject(values.compare) if values.compare else None


def _of_jax(config, on_jax):
    """What the table says about the backend."""
    return f", JAX, {config.sharding}" if on_jax else ""


def _fine_tuning(values, config: FineTuning, on_jax: bool):
    task, (slice_, devices) = find_task(config.task), _where(values, on_jax)
    num_classes = values.num_classes or task.num_classes
    if not num_classes:
        raise ValueError(f"--num_classes: must be given, as those of {task.name} are your own")
    if fields := {"image_size", "batch"}.intersection(config.open_fields()):
        raise ValueError(f"{', '.join(sorted(fields))}: must be given, as your images decide them")
    config = config.for_devices(devices)
    in_pairs = task.kind == "images" and config.value("images").in_pairs
    config.check_batch(devices.replicas, in_pairs)
    changes = {"steps": config.steps or _STEPS_OF_EPOCHS}
    if task.kind == "text":
        changes["buckets"] = ()  # the longest texts need the most
    config = config.with_values(changes)
    load_tensorflow()
    with quiet_loading():
        from keras_vitbert.fine_tuning.pretrained import RANDOM, open_pretrained
    pretrained = open_pretrained(RANDOM, values.architecture)
    kind = "images" if task.kind == "images" else "texts"

    def programs(strategy, changed):
        from keras_vitbert.ahead_of_time.step_programs import fine_tuning_programs

        return fine_tuning_programs(config.with_values(changed), pretrained, num_classes, strategy)

    subject = Subject(
        f"fine-tuning on {task.name}, {config.dtype}{_of_jax(config, on_jax)}",
        {kind: config.batch},
        {kind: "batch"},
        {kind: batch_unit(devices.replicas, config.accumulation, in_pairs)},
        pretrained.fine_tuned_model(task.kind, config)["max_sequence_length"],
        config.steps,
        programs,
        config.accumulation,
        on_jax,
        config.sharding,
    )
    return slice_, subject, None


def _where(values, on_jax):
    """The slice, or None for a GPU, and the devices."""
    if values.gpu:
        return None, Devices()
    slice_ = find_slice(values.tpu)
    return slice_, Devices(on_tpu=True, replicas=slice_.replicas, shared=True, on_jax=on_jax)


if __name__ == "__main__":
    sys.exit(run(main))

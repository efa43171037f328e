"""Proves a run on a TPU before one is paid for: compiles its very steps by the TPU's compiler.

    python -m tpu.aot --tpu=v3-128 [--config=paper|sample|FILE.py] [--variant=vitbert]
                      [--compare=joint] [--json=FILE] [--jobs=1] [--config.KEY=VALUE ...]
    python -m tpu.aot --tpu=v3-8 --task=cifar10|...|rte [--architecture=paper|DIR] [...]

It needs no TPU, no data and no network, but the extra `[aot]`. It prints whether the programs of a
run (training, mask update, validation; teachers, dropout, metrics and clip included) fit into
memory, what they compute, move and sum, and the least time a step can take. Exit status: 0 it fits,
2 it does not, or a flag is wrong.
"""

import dataclasses
import functools
import json
import os
import sys
import tempfile

from keras_vitbert import settings, variants
from keras_vitbert.command_line import UserError, load_tensorflow, one_line, quiet_loading, run
from keras_vitbert.config_flags import meant, require_shares
from keras_vitbert.fine_tuning import settings as fine_tuning_settings
from tpu.ahead_of_time import report
from tpu.ahead_of_time.compiler import check_installed, start_compiling
from tpu.slices import find_slice

_STEPS_OF_EPOCHS = 1_000  # of a text task: how many there are depends on the data


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is proven.

    Attributes:
        what: str, for the table.
        batch: dict of `images`, `texts` to how many a step takes over all replicas.
        keys: dict of the same to the key of the config that says so.
        text_length: int.
        steps: int, of the run.
        programs: callable of (strategy, batch) that returns `step_programs.Programs`.
    """

    what: str
    batch: dict
    keys: dict
    text_length: int
    steps: int
    programs: object

    @property
    def work(self):
        """The `Work` of a step."""
        return report.Work(
            self.batch.get("images", 0), self.batch.get("texts", 0), self.text_length, self.steps
        )


def define_flags(values):
    """The flags besides `--config`."""
    from absl import flags

    def string(name, text):
        flags.DEFINE_string(name, "", text, flag_values=values)

    string("tpu", "the accelerator type, such as v3-128")
    flags.DEFINE_string("variant", "vitbert", "the variant of pre-training", flag_values=values)
    string("compare", "another variant, whose training step is compared")
    string("task", "prove a fine-tuning on this task instead of a pre-training")
    string("architecture", "of a task: a run's folder, or a config of pretrain (default: paper)")
    string("json", "a file to write all of it to")
    flags.DEFINE_integer(
        "num_classes",
        0,
        "of a task of your own data",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "jobs",
        1,
        "how many programs are compiled at once; the paper's takes some 9 GB each",
        lower_bound=1,
        flag_values=values,
    )


def main(argv):
    """Runs the command.

    Args:
        argv: list of str, without the program's name.

    Returns:
        dict, what `--json` writes.
    """
    is_task = settings.is_given(argv, "task")
    read = _fine_tuning if is_task else _pretraining
    values, slice_, subject, other = read(argv)
    check_installed()
    if values.json and not os.path.isdir(os.path.dirname(values.json) or "."):
        raise UserError(f"--json={values.json}: there is no such folder; make it first")
    load_tensorflow()
    outcome = prove(subject, slice_, values.jobs)
    if other is not None and outcome["programs"]["train"]["fits"]:
        outcome["compared"] = _compare(outcome, other, slice_, values)
    if values.json:
        with open(values.json, "w") as file:
            json.dump(outcome, file, indent=2)
    print(report.table(outcome))
    if not outcome["memory"]["fits"]:
        raise UserError(
            f"--tpu={slice_.accelerator_type}: it does not fit; take a smaller batch, a smaller "
            "model, or a larger TPU"
        )
    return outcome


def prove(subject, slice_, jobs=1):
    """Compiles all programs of a subject; where they do not fit, searches the largest batch.

    Args:
        subject: `Subject`.
        slice_: `tpu.slices.Slice`.
        jobs: int, programs that are compiled at once.

    Returns:
        dict, see `--json`.
    """
    replicas = slice_.replicas
    programs, resident = _compiled(subject, subject.batch, slice_, jobs)
    memory = report.verdict(programs, resident)
    outcome = {
        "what": subject.what,
        "tpu": {
            "type": slice_.accelerator_type,
            "cores": slice_.cores,
            "chips": slice_.chips,
            "hosts": slice_.hosts,
            "topology": slice_.topology_name,
            "replicas": replicas,
            "source": slice_.generation.source,
        },
        "batch": subject.batch,
        "replica_batch": {name: count // replicas for name, count in subject.batch.items()},
        "steps": subject.steps,
        "variables_bytes": resident,
        "memory": memory,
        "programs": programs,
    }
    if programs["train"]["fits"]:
        outcome["roofline"] = report.roofline(programs["train"], slice_, subject.work)
    if not memory["fits"]:
        outcome["largest"] = _search(subject, slice_, memory)
    return outcome


def _compiled(subject, batch, slice_, jobs=1, only=None):
    """The compiled programs of a subject at a batch: (dict by name, bytes of variables)."""
    from tpu.ahead_of_time.tracing import Untraceable, stablehlo, tracing_strategy

    per_host = slice_.replicas // slice_.hosts
    strategy = tracing_strategy(slice_.replicas, per_host)
    programs = subject.programs(strategy, batch)
    results, waiting = {}, {}

    def finish_oldest():
        name = next(iter(waiting))
        try:
            results[name] = waiting.pop(name)()
        except RuntimeError as error:
            raise UserError(
                f"--tpu={slice_.accelerator_type}: the TPU's compiler refuses the program of "
                f"{name!r}: {one_line(error)[:500]}"
            ) from error

    with tempfile.TemporaryDirectory() as folder:
        for program in programs.steps:
            if only and program.name != only:
                continue
            _say(f"{program.name}: tracing {_described(batch)}")
            try:
                text, _ = stablehlo(strategy, program.step, (program.batch,))
            except Untraceable as error:
                raise UserError(
                    f"--tpu={slice_.accelerator_type}: the program of {program.name!r} cannot run "
                    f"on a TPU: {one_line(error)[:500]}"
                ) from error
            path = os.path.join(folder, f"{len(results) + len(waiting)}.mlir")
            with open(path, "wb") as file:
                file.write(text)
            while len(waiting) >= jobs:
                finish_oldest()
            _say(f"{program.name}: compiling")
            waiting[program.name] = start_compiling(path, slice_)
        while waiting:
            finish_oldest()
    return results, programs.resident_bytes


def _search(subject, slice_, memory):
    """The largest batch whose greediest program fits, images and texts in the same proportion.

    It supposes that memory grows with the batch in a straight line, looks where that line meets
    what there is, and narrows the place down until the next larger batch does not fit.

    Returns:
        dict with `batch` (over all replicas; None if none fits), `flags` and `tried`.
    """
    share = {name: count // slice_.replicas for name, count in subject.batch.items()}
    whole = max(share.values())
    # Sizes of a share, and bytes too much there (below 0: it fits).
    tried = {whole: memory["needed"] - memory["available"]}

    def scaled(size):
        return {name: max(1, count * size // whole) for name, count in share.items()}

    fits, fails = 0, whole
    while fails - fits > 1:
        if fits:
            slope = (tried[fails] - tried[fits]) / (fails - fits)
            guess = fits + int(-tried[fits] / max(slope, 1))
        else:
            guess = fails * memory["available"] // memory["needed"]
        size = min(max(guess, fits + 1), fails - 1)
        batch = {name: count * slice_.replicas for name, count in scaled(size).items()}
        programs, resident = _compiled(subject, batch, slice_, only=memory["program"])
        found = report.verdict(programs, resident)
        tried[size] = found["needed"] - found["available"]
        fits, fails = (size, fails) if found["fits"] else (fits, size)
    if not fits:
        return {"batch": None, "flags": {}, "tried": sorted(tried)}
    batch = {name: count * slice_.replicas for name, count in scaled(fits).items()}
    flags = {subject.keys[name]: count for name, count in batch.items()}
    return {"batch": batch, "flags": flags, "tried": sorted(tried)}


def _compare(outcome, other, slice_, values):
    programs, _ = _compiled(other, other.batch, slice_, only="train")
    if not programs["train"]["fits"]:
        raise UserError(f"--compare={values.compare}: its training step does not fit")
    return {
        "with": values.compare,
        "program": programs["train"],
        "differences": report.differences(outcome["programs"]["train"], programs["train"]),
    }


# --- what is proven -------------------------------------------------------------------------------


def _pretraining(argv):
    values, config = settings.parse(argv, define_flags, __doc__, "paper")
    for flag in ("architecture", "num_classes"):
        if getattr(values, flag):
            raise UserError(f"--{flag} goes with --task; leave it out")
    slice_ = _slice(values)
    config = settings.for_devices(config, on_tpu=True)
    name = settings.config_label(argv, "paper")

    def subject(variant_name, flag="variant"):
        if variant_name not in variants.VARIANTS:
            raise UserError(
                f"--{flag}={variant_name}: no such variant; give one of "
                f"{', '.join(variants.VARIANTS)}{meant(variant_name, variants.VARIANTS)}"
            )
        variant = variants.VARIANTS[variant_name]
        applied = variants.apply_variant(config, variant)
        batch, keys = {}, {}
        images = config.data.images
        if variant.images:
            require_shares(config, "image_batch", slice_.replicas, images.mixup or images.cutmix)
            batch["images"], keys["images"] = config.image_batch, "image_batch"
        if variant.text:
            require_shares(config, "text_batch", slice_.replicas)
            batch["texts"], keys["texts"] = config.text_batch, "text_batch"
        return Subject(
            f"{variant_name}, {name}, {config.dtype}",
            batch,
            keys,
            config.model.max_sequence_length,
            config.steps,
            functools.partial(_pretraining_programs, applied, variant, keys),
        )

    other = subject(values.compare, "compare") if values.compare else None
    return values, slice_, subject(values.variant), other


def _pretraining_programs(config, variant, keys, strategy, batch):
    from keras_vitbert.step_programs import pretraining_programs

    config = config.copy_and_resolve_references()
    config.update({keys[name]: count for name, count in batch.items()})
    return pretraining_programs(config, variant, strategy)


def _fine_tuning(argv):
    values, task, config = fine_tuning_settings.parse(argv, define_flags, __doc__)
    if values.compare:
        raise UserError("--compare is for pre-training; leave it out")
    slice_ = _slice(values)
    num_classes = values.num_classes or task.num_classes
    if not num_classes:
        raise UserError(
            f"--task={values.task}: how many classes there are depends on your data; give "
            "--num_classes"
        )
    config = fine_tuning_settings.for_devices(config, on_tpu=True)
    steps = config.steps or _STEPS_OF_EPOCHS
    config.steps = steps
    mixed = task.kind == "images" and (config.images.mixup or config.images.cutmix)
    require_shares(config, "batch", slice_.replicas, mixed)
    load_tensorflow()
    with quiet_loading():
        from keras_vitbert.fine_tuning.pretrained import RANDOM, open_pretrained
    pretrained = open_pretrained(RANDOM, values.architecture)
    model = pretrained.fine_tuned_model(task.kind, config)
    kind = "images" if task.kind == "images" else "texts"
    subject = Subject(
        f"fine-tuning on {values.task}, {config.dtype}",
        {kind: config.batch},
        {kind: "batch"},
        model["max_sequence_length"],
        steps,
        functools.partial(_fine_tuning_programs, config, pretrained, task.kind, num_classes),
    )
    return values, slice_, subject, None


def _fine_tuning_programs(config, pretrained, kind, num_classes, strategy, batch):
    from keras_vitbert.step_programs import fine_tuning_programs

    config = config.copy_and_resolve_references()
    [config.batch] = batch.values()
    return fine_tuning_programs(config, pretrained, kind, num_classes, strategy)


def _slice(values):
    if not values.tpu:
        raise UserError("--tpu is missing; give an accelerator type, such as --tpu=v3-128")
    return find_slice(values.tpu)


def _described(batch):
    return " and ".join(f"{count} {name}" for name, count in batch.items())


def _say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run(main))

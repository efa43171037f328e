"""Pre-trains ViT-BERT, or one of the variants of the paper's Table 1.

    python -m keras_vitbert.pretrain [--config=sample|small|paper|quick|FILE.py] [--variant=vitbert]
                                     [--output_dir=DIR] [--config.KEY=VALUE ...]
                                     [--image_teacher=WHERE] [--text_teacher=WHERE]
                                     [--profile=START,STOP]

Run again, it resumes where it was stopped. Exit status: 0 done, 2 bad flag or file, 3 diverged,
75 stopped by a signal after a checkpoint.
"""

import os
import sys

from keras_vitbert.configs.command import ACCEPT_CHANGES, DETERMINISTIC, DIVERGENCE_FLAGS
from keras_vitbert.configs.devices import Devices
from keras_vitbert.configs.pretraining import VARIANTS
from keras_vitbert.pretraining import settings
from pipelines import flags
from pipelines.command_line import choose_backend, quiet_loading, run
from tpu.flags import define_flags as define_tpu_flags
from tpu.strategy import wait_for_peers

# Settings that make a run do something less often.
_RARER = {
    "validation": "a larger validation_interval",
    "drawing": "a larger inspection.activation_interval",
    "probing": "a larger probes.interval",
    "saving": "a larger checkpoint_interval",
}


def define_flags(values):
    """Defines the flags other than `--config`, on an `absl.flags.FlagValues`."""
    flags.define_flags(
        ("variant", "vitbert", f"what to train: {', '.join(VARIANTS)}"),
        ("output_dir", "", "the run's folder (default: runs/CONFIG-VARIANT)"),
        ("dry_run", False, "only print what was found and would be done"),
        (
            "image_teacher",
            "",
            "a run, or a ViT or DeiT of another project that classifies images: the folder of a "
            "Hugging Face model or keras-hub preset, hf://OWNER/NAME, a preset's name, a .npz of "
            "Google's (default: OUTPUT_DIR/teachers/vit, made on demand)",
        ),
        (
            "text_teacher",
            "",
            "a run, or a BERT of another project with a masked-LM head: the folder of a Hugging "
            "Face model or keras-hub preset, hf://OWNER/NAME, a preset's name, a checkpoint of "
            "Google's (default: OUTPUT_DIR/teachers/bert, made on demand)",
        ),
        (
            "initial_weights",
            "",
            "a run, a preset, or a BERT or ViT to start from (default: random)",
        ),
        ("accept_changes", "", ACCEPT_CHANGES),
        DETERMINISTIC,
        *DIVERGENCE_FLAGS,
        ("profile", "", "START,STOP: the steps to trace for TensorBoard's profile plug-in"),
        (
            "skip_damaged",
            0,
            "how many damaged records may be skipped; above 0, all are checked first",
            0,
        ),
        ("cache", False, "keep training records in memory once they are read"),
        ("cache_dir", "", "the folder of prepared sample data (default: ~/.cache/keras_vitbert)"),
        values=values,
    )
    define_tpu_flags(values)


def main(argv):
    """Runs the command; returns the content of `summary.json`."""
    values, config = settings.parse(argv, define_flags, __doc__)
    on_jax = choose_backend(values.backend) == "jax"
    if on_jax and values.profile:
        raise ValueError("--profile: traces TensorFlow alone; leave it out with JAX")
    config.for_devices(Devices(values.tpu is not None, on_jax=on_jax))  # before it connects
    profiled = settings.profiled_steps(values.profile, config.steps)
    output_dir = values.output_dir or os.path.join(
        "runs", f"{settings.config_label(values)}-{config.variant}"
    )
    if values.tpu is None:
        wait_for_peers(values.wait_seconds)
    with quiet_loading():
        from keras_vitbert.experiments import open_run
        from keras_vitbert.runs.divergence import Policy
        from keras_vitbert.runs.machine import open_machine

    opened = open_run(
        config,
        output_dir,
        open_machine(values.tpu, values.tpu_address, config.sharding, values.deterministic),
        image_teacher=values.image_teacher,
        text_teacher=values.text_teacher,
        initial_weights=values.initial_weights,
        skip_damaged=values.skip_damaged,
        cache=values.cache,
        cache_dir=values.cache_dir,
        profiled_steps=profiled,
        divergence=Policy(values.on_divergence, values.max_divergences),
        accepted=tuple(values.accept_changes.split(",")),
        writes=not values.dry_run,
    )
    summary = opened.train(values.dry_run)
    if not values.dry_run:
        print(report(summary, output_dir))
    return summary


def report(summary, output_dir):
    """A run's results in a few lines, from its `summary.json`."""
    from keras_vitbert.runs.origin import accepted_lines
    from keras_vitbert.runs.progress import advice, shares_line

    validation, baseline = summary["validation"], summary["baselines"]
    lines = [f"{summary['variant']}: {summary['steps']} steps, {summary['seconds']} s"]
    for name, measure, base in (
        ("image accuracy", "image_accuracy", "image_majority_accuracy"),
        ("masked-LM loss", "mlm_loss", "mlm_unigram_loss"),
        ("masked-LM accuracy", "mlm_accuracy", "mlm_unigram_accuracy"),
        ("next-sentence accuracy", "nsp_accuracy", "nsp_majority_accuracy"),
    ):
        if measure in validation:
            lines.append(f"  {name:<23}{validation[measure]:8.4f}  baseline {baseline[base]:.4f}")
    if summary["mask"]:
        blocks = ", ".join(
            f"{block} {sparsity:.3f}"
            for block, sparsity in summary["mask"]["sparsity_per_block"].items()
        )
        lines.append(f"  {'mask sparsity':<23}{summary['mask']['sparsity']:8.4f}  ({blocks})")
    if summary["bad_records"]:
        lost = sum(damage["records"] for damage in summary["bad_records"])
        lines.append(f"  {lost} damaged records were skipped")
    not_applied = summary.get("divergences", {}).get("not_applied", 0)
    if not_applied:
        lines.append(f"  {not_applied} steps were not applied: {output_dir}/divergences.csv")
    lines.append(f"  {shares_line(summary['time'])}")
    lines += [f"  {line}" for line in advice(summary["time"], _RARER)]
    lines += accepted_lines(summary)
    lines.append(f"  details: {output_dir}/summary.json; tensorboard --logdir {output_dir}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run(main))

"""Pre-trains ViT-BERT, or one of the variants of the paper's Table 1.

    python -m keras_vitbert.pretrain [--config=sample|small|paper|FILE.py] [--variant=vitbert]
                                     [--output_dir=DIR] [--quick] [--config.KEY=VALUE ...]
                                     [--image_teacher=WHERE] [--text_teacher=WHERE]
                                     [--profile=START,STOP]

Run again, it resumes where it was stopped. Exit status: 0 done, 2 bad flag or file, 3 diverged,
75 stopped by a signal after a checkpoint.
"""

import os
import sys

from keras_vitbert.configs import variants
from keras_vitbert.configs.memory import require_pretraining_memory
from keras_vitbert.configs.overrides import (
    ACCEPT_CHANGES,
    DETERMINISTIC,
    DIVERGENCE_FLAGS,
    QUICK,
)
from keras_vitbert.configs.pretraining import check_for_xla, for_devices, with_sizes
from keras_vitbert.pretraining import settings
from pipelines import flags
from pipelines.command_line import choose_backend, quiet_loading, run
from pipelines.status import doing
from tpu.devices import (
    enable_determinism,
    gpu_capabilities,
    holder_of_weights,
    is_shared,
)
from tpu.flags import define_flags as define_tpu_flags
from tpu.peak_flops import peak_flops
from tpu.strategy import get_strategy, wait_for_peers

# Settings that make a run do something less often.
_RARER = {
    "validation": "a larger --config.validation_interval",
    "drawing": "a larger --config.inspection.activation_interval",
    "probing": "a larger --config.probes.interval",
    "saving": "a larger --config.checkpoint_interval",
}


def define_flags(values):
    """Defines the flags other than `--config`.

    Args:
        values: `absl.flags.FlagValues`.
    """
    flags.define_flags(
        ("variant", "vitbert", f"what to train: {', '.join(variants.VARIANTS)}"),
        ("output_dir", "", "the run's folder (default: runs/CONFIG-VARIANT)"),
        QUICK,
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
            "max_bad_records",
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
    """Runs the command.

    Args:
        argv: list of str, without the program's name.

    Returns:
        dict, the content of `summary.json`.
    """
    values, config = settings.parse(argv, define_flags, __doc__, needs_data=True)
    on_tpu = values.tpu is not None
    on_jax = choose_backend(values.backend) == "jax"
    if on_jax and values.profile:
        raise ValueError("--profile: traces TensorFlow alone; leave it out with JAX")
    check_for_xla(config, on_tpu, on_jax)  # before connecting to devices
    variant = variants.VARIANTS[values.variant]
    profiled = settings.profiled_steps(values.profile, config.steps)
    output_dir = values.output_dir or os.path.join(
        "runs", f"{settings.config_label(values)}-{variant.name}"
    )

    if values.tpu is None:
        wait_for_peers(values.wait_seconds)
    with quiet_loading():
        strategy = get_strategy(values.tpu, values.tpu_address, config.sharding)
        if values.deterministic:
            enable_determinism()
        from keras_vitbert.pretraining import overview
        from keras_vitbert.pretraining.data import open_data
        from keras_vitbert.pretraining.run import PretrainingRun, pretrain
        from keras_vitbert.runs.divergence import policy_of
        from keras_vitbert.runs.overview import table
        from keras_vitbert.runs.run_folder import RunFolder
        from keras_vitbert.runs.workers import Workers

        workers, policy = Workers(strategy), policy_of(values)

    config = for_devices(config, on_tpu, gpu_capabilities(), is_shared(strategy), on_jax)
    # The texts of the sample are as long as the model allows.
    length = config.model.max_sequence_length if config.data.source == "sample" else 0
    holder = holder_of_weights(strategy)
    replicas = strategy.num_replicas_in_sync
    require_pretraining_memory(config, variant, workers.count, holder, length, replicas)
    with workers.watched():
        folder = RunFolder(output_dir, workers.is_chief and not values.dry_run)
        with doing("opening the data"):
            data = open_data(
                config,
                values.cache_dir,
                images=variant.images,
                text=variant.text,
                max_bad_records=values.max_bad_records,
                cache=values.cache,
                audits=folder,
            )
        config = with_sizes(config, data.sizes)
        config.data.case = data.case or config.data.case
        run = PretrainingRun(
            variants.apply_variant(config, variant),
            folder,
            workers,
            strategy,
            data,
            variant,
            teacher_paths={"image": values.image_teacher, "text": values.text_teacher},
            initial_weights=values.initial_weights,
            profiled_steps=profiled,
            divergence=policy,
            accepted=tuple(values.accept_changes.split(",")),
            peak_flops=peak_flops(strategy, config.dtype, values.tpu),
        )
        summary = pretrain(run, lambda: print(table(overview.rows(run))), values.dry_run)
    if values.dry_run:
        return summary
    print(report(summary, output_dir))
    return summary


def report(summary, output_dir):
    """A run's results in a few lines.

    Args:
        summary: dict, the content of `summary.json`.
        output_dir: str, the run's folder.
    """
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
    if "time" in summary:  # older versions recorded none
        lines.append(f"  {shares_line(summary['time'])}")
        lines += [f"  {line}" for line in advice(summary["time"], _RARER)]
    lines += accepted_lines(summary)
    lines.append(f"  details: {output_dir}/summary.json; tensorboard --logdir {output_dir}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run(main))

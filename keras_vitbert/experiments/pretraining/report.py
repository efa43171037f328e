"""The report of a pre-training: its `summary.json`, and what it prints."""

import dataclasses
import time

from keras_vitbert.inspection.activations import co_activation
from keras_vitbert.inspection.values import read_values, stored_steps
from keras_vitbert.runs import divergence
from keras_vitbert.runs.origin import accepted_lines
from keras_vitbert.runs.progress import shares_line
from pipelines.shards.records import left_out

_MEASURES = (
    ("image accuracy", "image_accuracy", "image_majority_accuracy"),
    ("masked-LM loss", "mlm_loss", "mlm_unigram_loss"),
    ("masked-LM accuracy", "mlm_accuracy", "mlm_unigram_accuracy"),
    ("next-sentence accuracy", "nsp_accuracy", "nsp_majority_accuracy"),
)


def summarised(run, trainer, stream, began, resumed_from, scores, masks):
    """The content of `summary.json`, without what the run was made from: dict.

    Args:
        run, trainer, stream: `PretrainingRun`, its `JointTrainer` and `JointStream`.
        began: float, the time that the run began.
        resumed_from: int, the step that training started from.
        scores: dict, of `baselines`.
        masks: dict, of `mask_summary`.
    """
    rows = run.folder.rows(up_to_step=trainer.step)
    return {
        "variant": run.variant.name,
        "steps": trainer.step,
        "seconds": round(time.time() - began, 1),
        **_rates(rows[-1] if rows else {}),
        "parameters": trainer.network.count_params(),
        "resumed_from_step": resumed_from,
        "validation": _last_validation(run.folder, rows, trainer.step),
        "baselines": scores,
        "mask": masks,
        "co_activation": _co_activation(run.folder.path, trainer.step),
        "divergences": divergence.counts(trainer),
        "bad_records": [dataclasses.asdict(damage) for damage in left_out(stream)],
    }


def _rates(row):
    """Images and tokens a second from the last row of the log; 0 for an absent modality."""
    names = ("images_per_second", "tokens_per_second")
    return {name: float(row.get(name) or 0.0) for name in names}


def _last_validation(folder, rows, step):
    """The last validation in the log, which is that of the last step."""
    row = rows[-1] if rows else {"step": 0}
    values = {name: value for name, value in row.items() if name.startswith("val_") and value}
    if int(row["step"]) != step or not values:
        raise ValueError(
            f"{folder.path}/metrics.csv is damaged (it lacks the validation at step {step}); write "
            f"the name of an older checkpoint into {folder.checkpoints}/LAST, or begin again"
        )
    return {name.removeprefix("val_"): float(value) for name, value in values.items()}


def mask_summary(trainer):
    """The sparsity of the masks: dict, empty without masks. All workers call it."""
    scalars = trainer.mask_sparsity()
    if not scalars:
        return {}
    sparsity = scalars.pop("mask_sparsity")
    return {
        "sparsity": sparsity,
        "cleared": round(sparsity * trainer.merge.mask.size),
        "size": trainer.merge.mask.size,
        "sparsity_per_block": {name.split("/")[1]: value for name, value in scalars.items()},
    }


def _co_activation(path, step):
    """How far the modalities share the units of each block at the end, if that was recorded."""
    if step not in stored_steps(path, "activations"):
        return {}
    values = read_values(path, "activations", steps=[step])[step]
    found = co_activation(values["image"], values["text"])
    return {
        name: [round(float(number), 4) for number in numbers] for name, numbers in found.items()
    }


def printed(summary, folder):
    """A run's results in a few lines: str.

    Args:
        summary: the content of `summary.json`.
        folder: str, the run's, whose files it names.
    """
    validation, baseline = summary["validation"], summary["baselines"]
    lines = [f"{summary['variant']}: {summary['steps']} steps, {summary['seconds']} s"]
    for name, measure, base in _MEASURES:
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
        lines.append(f"  {not_applied} steps were not applied: {folder}/divergences.csv")
    lines += [f"  {shares_line(summary['time'])}", *accepted_lines(summary)]
    lines.append(f"  details: {folder}/summary.json; tensorboard --logdir {folder}")
    return "\n".join(lines)

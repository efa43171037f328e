"""The report of a pre-training: its `summary.json`, and what it prints."""

import dataclasses
import time
from typing import Any

import numpy as np

from keras_vitbert.experiments.pretraining.data import Data
from keras_vitbert.inspection.activations import co_activation
from keras_vitbert.inspection.values import read_values, stored_steps
from keras_vitbert.runs import divergence
from keras_vitbert.runs.damaged_records import reading
from keras_vitbert.runs.progress import shares_line
from keras_vitbert.runs.provenance import accepted_lines
from keras_vitbert.training.joint_trainer import JointTrainer
from pipelines.images.image_records import ImageStream
from pipelines.joint_stream import JointStream
from pipelines.shards.records import left_out
from pipelines.text_stream import TextStream

_EXAMPLES = 20_000  # training examples that the frequencies are estimated from
_MEASURES = (
    ("image accuracy", "image_accuracy", "image_majority_accuracy"),
    ("masked-LM loss", "mlm_loss", "mlm_unigram_loss"),
    ("masked-LM accuracy", "mlm_accuracy", "mlm_unigram_accuracy"),
    ("next-sentence accuracy", "nsp_accuracy", "nsp_majority_accuracy"),
)
# An accuracy and its baseline, in percent, for those who do not know the names.
_SENTENCES = {
    "image_accuracy": "Of 100 images, {} are classified right ({} by the most common class).",
    "mlm_accuracy": "Of 100 masked words, {} are guessed right ({} by the most common word).",
    "nsp_accuracy": "Of 100 pairs, {} are judged right: does text B follow A? ({} by one answer)",
}


def summarize(
    run: Any,
    trainer: JointTrainer,
    stream: JointStream,
    began: float,
    resumed_from: int,
    masks: dict[str, Any],
) -> dict[str, Any]:
    """The content of `summary.json`, without what the `PretrainingRun` was made from."""
    folder, step, scores = run.folder, trainer.step, baselines(stream)
    row = (folder.rows(up_to_step=step) or [{"step": 0}])[-1]
    validation = {name: value for name, value in row.items() if name.startswith("val_") and value}
    if int(row["step"]) != step or not validation:
        raise ValueError(
            f"{folder.path}/metrics.csv is damaged (it lacks the validation at step {step}); write "
            f"the name of an older checkpoint into {folder.checkpoints}/LAST, or begin again"
        )
    return {
        "variant": run.variant.name,
        "steps": step,
        "seconds": round(time.time() - began, 1),
        "images_per_second": float(row.get("images_per_second") or 0.0),
        "tokens_per_second": float(row.get("tokens_per_second") or 0.0),
        "parameters": trainer.network.count_params(),
        "resumed_from_step": resumed_from,
        "validation": {name.removeprefix("val_"): float(x) for name, x in validation.items()},
        "baselines": scores,
        "mask": masks,
        "co_activation": _co_activation(folder.path, step),
        "divergences": divergence.counts(trainer),
        "bad_records": [dataclasses.asdict(damage) for damage in left_out(stream)],
    }


def baselines(data: Data | JointStream) -> dict[str, float]:
    """Scores of a model that has learned frequencies and nothing else.

    The most frequent class, the unigram distribution of masked tokens (add-one smoothing) and the
    more frequent next-sentence label are estimated from the first 20,000 training examples and
    measured on the validation examples.

    Returns:
        `image_majority_accuracy`, and `mlm_unigram_accuracy`, `mlm_unigram_loss` (nats per masked
        token) and `nsp_majority_accuracy`, for the modalities that `data` has.
    """
    result = {}
    with reading(data):
        if data.images is not None and data.image_validation is not None:
            counts = np.bincount(_labels(data.images, _EXAMPLES))
            labels = _labels(data.image_validation)
            result["image_majority_accuracy"] = float(np.mean(labels == counts.argmax()))
        if data.texts is not None and data.text_validation is not None:
            ids, next_sentence = _answers(data.texts, _EXAMPLES)
            counts = np.bincount(ids, minlength=data.texts.vocabulary_size)
            majority = np.bincount(next_sentence, minlength=2).argmax()
            ids, next_sentence = _answers(data.text_validation)
            log_probabilities = np.log((counts + 1) / (counts + 1).sum())
            result["mlm_unigram_accuracy"] = float(np.mean(ids == counts.argmax()))
            result["mlm_unigram_loss"] = float(-log_probabilities[ids].mean())
            result["nsp_majority_accuracy"] = float(np.mean(next_sentence == majority))
    return result


def _labels(source: ImageStream, limit: int = -1) -> np.ndarray:
    batches = source.labels().take(limit).batch(1024)
    return np.concatenate([labels.numpy() for labels in batches])


def _answers(source: TextStream, limit: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """The ids of all masked tokens, and all next-sentence labels."""
    ids, next_sentence = [], []
    end = source.records.count if limit < 0 else min(limit, source.records.count)
    for batch in source.validation(0, end).batch(1024):
        ids.append(batch["masked_ids"].numpy()[batch["masked_weights"].numpy() > 0])
        next_sentence.append(batch["next_sentence_labels"].numpy())
    return np.concatenate(ids), np.concatenate(next_sentence)


def mask_summary(trainer: JointTrainer) -> dict[str, Any]:
    """The sparsity of the masks; empty without masks. All workers call it."""
    scalars, mask = trainer.mask_sparsity(), trainer.merge.mask
    if not scalars or mask is None:
        return {}
    sparsity = scalars.pop("mask_sparsity")
    return {
        "sparsity": sparsity,
        "cleared": round(sparsity * mask.size),
        "size": mask.size,
        "sparsity_per_block": {name.split("/")[1]: value for name, value in scalars.items()},
    }


def _co_activation(path: str, step: int) -> dict[str, list[float]]:
    """How far the modalities share the units of each block at the end, if that was recorded."""
    if step not in stored_steps(path, "activations"):
        return {}
    values = read_values(path, "activations", steps=[step])[step]
    shared = co_activation(values["image"], values["text"])
    return {
        name: [round(float(number), 4) for number in numbers] for name, numbers in shared.items()
    }


def describe(summary: dict[str, Any], folder: str) -> str:
    """A run's `summary.json` in a few lines, which name files of its folder."""
    validation, baseline = summary["validation"], summary["baselines"]
    lines = [f"{summary['variant']}: {summary['steps']} steps, {summary['seconds']} s"]
    for name, measure, base in _MEASURES:
        if measure in validation:
            lines.append(f"  {name:<23}{validation[measure]:8.4f}  baseline {baseline[base]:.4f}")
    if mask := summary["mask"]:
        blocks = ", ".join(f"{name} {x:.3f}" for name, x in mask["sparsity_per_block"].items())
        lines.append(f"  {'mask sparsity':<23}{mask['sparsity']:8.4f}  ({blocks})")
    for _, measure, base in _MEASURES:
        if measure in validation and measure in _SENTENCES:
            percent = (round(100 * scores) for scores in (validation[measure], baseline[base]))
            lines.append(f"  {_SENTENCES[measure].format(*percent)}")
    for word in summary.get("masked_words", ()):  # runs of before have none
        guesses = " / ".join(word["guesses"])
        lines += [f"  {word['text']}", f"    answer: {word['answer']}; guesses: {guesses}"]
    if summary["bad_records"]:
        lost = sum(damage["records"] for damage in summary["bad_records"])
        lines.append(f"  {lost} damaged records were skipped")
    if not_applied := summary["divergences"]["not_applied"]:
        lines.append(f"  {not_applied} steps were not applied: {folder}/divergences.csv")
    lines += [f"  {shares_line(summary['time'])}", *accepted_lines(summary)]
    lines.append(f"  details: {folder}/summary.json; tensorboard --logdir {folder}")
    return "\n".join(lines)

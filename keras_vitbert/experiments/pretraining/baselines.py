"""Scores of a model that has learned frequencies and nothing else."""

import numpy as np

from keras_vitbert.runs.record_errors import reading

_EXAMPLES = 20_000  # training examples that the frequencies are estimated from

_OF_IMAGES = {"image_majority_accuracy"}
_OF_TEXTS = {"mlm_unigram_accuracy", "mlm_unigram_loss", "nsp_majority_accuracy"}


def baselines(data, known=None):
    """Scores of a model that has learned frequencies and nothing else.

    The most frequent class, the unigram distribution of masked tokens (add-one smoothing) and the
    more frequent next-sentence label are estimated from the first 20,000 training examples and
    measured on the validation examples.

    Args:
        data: a `Data` or a `JointStream`.
        known: dict of scores that were measured on the same data before, or None.

    Returns:
        dict with `image_majority_accuracy`, and `mlm_unigram_accuracy`, `mlm_unigram_loss` (nats
        per masked token) and `nsp_majority_accuracy`, for the modalities that `data` has.
    """
    result, known = {}, known or {}
    with reading(data):
        if data.images is not None and _OF_IMAGES <= known.keys():
            result |= {name: known[name] for name in _OF_IMAGES}
        elif data.images is not None:
            counts = np.bincount(_labels(data.images, _EXAMPLES))
            labels = _labels(data.image_validation)
            result["image_majority_accuracy"] = float(np.mean(labels == counts.argmax()))
        if data.texts is not None and _OF_TEXTS <= known.keys():
            result |= {name: known[name] for name in _OF_TEXTS}
        elif data.texts is not None:
            ids, next_sentence = _answers(data.texts, _EXAMPLES)
            counts = np.bincount(ids, minlength=data.texts.vocabulary_size)
            majority = np.bincount(next_sentence, minlength=2).argmax()
            ids, next_sentence = _answers(data.text_validation)
            log_probabilities = np.log((counts + 1) / (counts + 1).sum())
            result["mlm_unigram_accuracy"] = float(np.mean(ids == counts.argmax()))
            result["mlm_unigram_loss"] = float(-log_probabilities[ids].mean())
            result["nsp_majority_accuracy"] = float(np.mean(next_sentence == majority))
    return result


def _labels(source, limit=-1):
    batches = source.labels().take(limit).batch(1024)
    return np.concatenate([labels.numpy() for labels in batches])


def _answers(source, limit=-1):
    """The ids of all masked tokens, and all next-sentence labels."""
    ids, next_sentence = [], []
    end = source.records.count if limit < 0 else min(limit, source.records.count)
    for batch in source.validation(0, end).batch(1024):
        ids.append(batch["masked_ids"].numpy()[batch["masked_weights"].numpy() > 0])
        next_sentence.append(batch["next_sentence_labels"].numpy())
    return np.concatenate(ids), np.concatenate(next_sentence)

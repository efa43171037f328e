"""What frequencies alone reach, by counting."""

import collections
import math

import pytest

from keras_vitbert.experiments.pretraining import report
from keras_vitbert.experiments.pretraining.data import open_data
from tests.keras_vitbert.tiny_runs import VOCABULARY, config_of
from tests.keras_vitbert.whole_runs import examples_of

MOST = 5


def masked_words(example):
    """The words to be found, as numbers."""
    pairs = zip(example["masked_lm_ids"], example["masked_lm_weights"], strict=True)
    return [word for word, weight in pairs if weight]


def commonest(values):
    counts = collections.Counter(values)
    return min(value for value in counts if counts[value] == max(counts.values()))


def test_frequencies_are_those_of_the_first_examples(sources, monkeypatch):
    """And what is counted is that of all validation examples."""
    monkeypatch.setattr(report, "_EXAMPLES", MOST)
    train, validation = (
        {
            "labels": [e["image/class/label"][0] for e in images],
            "words": [word for e in texts for word in masked_words(e)],
            "next": [e["next_sentence_labels"][0] for e in texts],
        }
        for split, most in (("train", MOST), ("validation", None))
        for images in [list(examples_of(sources, "images", split))[:most]]
        for texts in [list(examples_of(sources, "text", split))[:most]]
    )
    accuracy = {
        name: validation[name].count(commonest(train[name])) / len(validation[name])
        for name in train
    }
    total = len(train["words"]) + len(VOCABULARY)
    losses = [-math.log((train["words"].count(w) + 1) / total) for w in validation["words"]]
    assert report.baselines(open_data(config_of(sources))) == pytest.approx(
        {
            "image_majority_accuracy": accuracy["labels"],
            "mlm_unigram_accuracy": accuracy["words"],
            "mlm_unigram_loss": sum(losses) / len(losses),
            "nsp_majority_accuracy": accuracy["next"],
        },
        rel=1e-9,
    )

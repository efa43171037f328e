"""What frequencies alone reach, by counting."""

import collections
import math

import pytest

from keras_vitbert.experiments.pretraining import report
from keras_vitbert.experiments.pretraining.data import open_data
from keras_vitbert.experiments.pretraining.report import baselines
from tests.keras_vitbert.tiny_runs import VOCABULARY, config_of
from tests.keras_vitbert.whole_runs import count_baselines, examples_of, masked_words


def test_baselines(sources):
    expected = count_baselines(sources)
    assert all(0 < value < 1 for name, value in expected.items() if name.endswith("accuracy"))
    assert baselines(open_data(config_of(sources))) == pytest.approx(expected, rel=1e-9)


def test_frequencies_are_those_of_the_first_examples(sources, monkeypatch):
    """And what is counted is that of all validation examples."""
    most = 5
    monkeypatch.setattr(report, "_EXAMPLES", most)
    train, validation = (
        [masked_words(example) for example in examples_of(sources, "text", split)]
        for split in ("train", "validation")
    )
    assert len(train) > most
    counts = collections.Counter(word for words in train[:most] for word in words)
    total = sum(counts.values()) + len(VOCABULARY)
    losses = [-math.log((counts[word] + 1) / total) for words in validation for word in words]
    found = baselines(open_data(config_of(sources, variant="bert")))
    assert found["mlm_unigram_loss"] == pytest.approx(sum(losses) / len(losses))

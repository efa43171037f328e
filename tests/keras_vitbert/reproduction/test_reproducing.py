"""What is kept of a unit's summary."""

from keras_vitbert.reproduction.reproducing import numbers_of
from keras_vitbert.reproduction.units import Unit


def test_the_value_of_a_probe_is_that_of_ridge_regression():
    """Whichever classifier is better on the test examples, and with all training examples."""
    unit = Unit("probe/a/vitbert-s0", "keras_vitbert.probe", (), 0)
    few, ridge = {"ridge": [0.1], "neighbours": [0.2]}, [0.25, 0.5]
    for neighbours in ([0.75, 0.75], [0.0, 0.0]):
        measured = {"0": {"ridge": ridge, "neighbours": neighbours}, "5": few}
        summary = {"splits": {"dev": measured, "more": {}}, "examples": 8, "training_examples": 9}
        assert numbers_of(unit, summary)["value"] == 0.375

"""A step or a model of the user's own: `keras_vitbert.aot MODULE:FUNCTION`."""

import json
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert import aot
from keras_vitbert.extras.ahead_of_time.programs import own_programs
from keras_vitbert.extras.ahead_of_time.tracing import stablehlo, tracing_strategy
from pipelines import command_line
from pipelines.command_line import EXIT_DONE
from tests.keras_vitbert.extras.ahead_of_time.results import needs_compiler


def classifier():
    """A model and the batch that `fit` takes."""
    layers = [keras.Input((5,)), keras.layers.BatchNormalization(), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model, (np.zeros((16, 5), np.float32), tf.TensorSpec((16,), tf.int32))


@pytest.fixture
def own(monkeypatch):
    """`own(function)` is the name of a module's function."""

    def name(build):
        monkeypatch.setitem(sys.modules, "mine", types.SimpleNamespace(build=build))
        return "mine:build"

    return name


def test_the_programs_of_a_model(own):
    """They can be traced for a TPU, metrics and the sum over replicas included."""
    strategy = tracing_strategy(4)
    programs = own_programs(own(classifier), strategy)
    assert programs.batch == {"examples": 16}
    train, validate = programs.steps
    assert (train.name, validate.name) == ("train", "validate")
    assert [spec.shape.as_list() for spec in train.batch] == [[4, 5], [4]]
    text, _ = stablehlo(strategy, train.step, (train.batch,))
    assert b"all_reduce" in text
    # Weights and statistics, AdamW's moments of the weights, and scalars of optimiser and metrics.
    weights, statistics = 5 * 3 + 3 + 5 + 5, 5 + 5
    arrays = [v for v in programs.variables if len(v.shape)]
    assert sum(np.prod(v.shape) for v in arrays) == 3 * weights + statistics
    assert len(arrays) < len(programs.variables)


@pytest.mark.parametrize(
    "build",
    [
        lambda: (3, np.zeros(2)),
        lambda: (print, [np.zeros((2, 3)), np.zeros(3)]),
        lambda: (keras.Sequential([keras.layers.Dense(1)]), np.zeros((8, 2))),  # not compiled
        lambda: (print, np.zeros((3, 2))),  # of which two replicas cannot take equal parts
    ],
)
def test_functions_that_cannot_be_proven(own, build):
    with pytest.raises(ValueError, match="^mine:build: "):
        own_programs(own(build), tracing_strategy(2))


def test_names_of_nothing():
    for name in ("no_such_module:build", "json:no_such"):
        with pytest.raises(ValueError, match=f"^{name}: "):
            own_programs(name, tracing_strategy(2))


@needs_compiler
@pytest.mark.slow
def test_a_model_of_ones_own_is_compiled(own, tmp_path):
    path = tmp_path / "result.json"
    argv = [own(classifier), "--tpu=v3-8", f"--json={path}"]
    assert command_line.run(aot.main, argv) == EXIT_DONE
    outcome = json.loads(path.read_text())
    assert list(outcome["programs"]) == ["train", "validate"] and outcome["memory"]["fits"]
    assert "all-reduce" in outcome["programs"]["train"]["collectives"]

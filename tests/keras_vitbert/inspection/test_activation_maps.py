"""Activation maps of a whole run, also where it is killed and resumed."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs.devices import Devices
from keras_vitbert.experiments.pretraining.data import open_data
from keras_vitbert.experiments.pretraining.trainer import build_trainer
from keras_vitbert.inspection.activations import MeanActivations
from keras_vitbert.inspection.callbacks import ActivationMaps
from keras_vitbert.inspection.values import read_values
from keras_vitbert.runs.loop import fit
from keras_vitbert.runs.machine import Machine, Workers
from keras_vitbert.runs.run import Run
from keras_vitbert.runs.run_folder import RunFolder
from tests.keras_vitbert.tiny_runs import config_of


class Killed(Exception):
    pass


def files(folder):
    """The content of the files of values by name."""
    return {path.name: path.read_bytes() for path in (folder / "inspection").iterdir()}


@pytest.mark.slow
def test_a_run_killed_after_its_maps_ends_with_the_same_files(sources, tmp_path):
    """At step 6, whose last checkpoint is that of step 4."""
    config = config_of(sources, "--config.model.num_layers=2", variant="vitbert_no_kd")
    data, strategy = open_data(config), tf.distribute.get_strategy()
    stream = data.stream(config)

    def run(path, kill=None):
        trainer = build_trainer(config, strategy)
        trainer.run_eagerly = True  # quicker: tracing takes longer than ten steps
        folder = RunFolder(str(path))
        maps = ActivationMaps(stream, data.vocabulary, folder, 3, 5, config.steps)
        show = maps._show

        def show_and_die():
            show()
            if trainer.step == kill:
                raise Killed

        maps._show = show_and_die
        tf.io.gfile.makedirs(folder.checkpoints)
        machine = Machine(strategy, Workers(strategy), Devices())
        fit(Run(config=config, folder=folder, machine=machine, data=None), trainer, stream, [maps])
        return trainer

    trainer = run(tmp_path / "whole")
    values = read_values(str(tmp_path / "whole"), "activations")
    assert list(values) == [0, 3, 6, 9, 10]
    assert np.abs(values[0]["text"] - values[10]["text"]).max() > 0.01
    # Those of the end, from what `validation` gives first: 5 examples are two batches of 4.
    means = MeanActivations(trainer.network.backbone, strategy, data.vocabulary)
    for modality, expected in means(stream.validation().take(2)).items():
        np.testing.assert_array_equal(values[10][modality], expected)

    with pytest.raises(Killed):
        run(tmp_path / "killed", kill=6)
    assert max(files(tmp_path / "killed")) == "activations-00000006.npz"
    run(tmp_path / "killed")
    assert files(tmp_path / "killed") == files(tmp_path / "whole")

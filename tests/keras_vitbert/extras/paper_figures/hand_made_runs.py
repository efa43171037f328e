"""Folders of runs that are made by hand."""

import numpy as np
import tensorflow as tf

from keras_vitbert.configs import sample
from keras_vitbert.configs.merges import has_masks
from keras_vitbert.configs.pretraining import VARIANTS
from keras_vitbert.experiments.pretraining.trainer import build_trainer
from keras_vitbert.inspection.values import MaskValues, write_values
from keras_vitbert.model.shared_weights import KINDS
from keras_vitbert.runs import checkpoints
from keras_vitbert.runs.identity import Identity, experiment_dict
from keras_vitbert.runs.run_folder import RunFolder
from tests.keras_vitbert.tiny_runs import CLASS_NAMES, VOCABULARY, config_of

BLOCKS, UNITS = 2, 16


def make_run(path, variant, merge="mask"):
    """The folder of a run that has no checkpoint: a record, and stored values if it has masks."""
    path.mkdir(parents=True)
    values = {"merge.name": merge, "model.num_layers": BLOCKS, "model.hidden_dim": UNITS}
    config = sample.get_config().with_values({**values, "variant": variant})
    folder, random = RunFolder(str(path)), np.random.default_rng(5)
    Identity(experiment_dict(config), {}).begin(folder)
    if has_masks(merge):
        for step in (0, 4, 9):
            values = random.random((2, BLOCKS, UNITS)).astype(np.float32)
            write_values(folder, "activations", step, image=values[0], text=values[1])
        for step in (3, 7):
            blocks = ["block_0", "block_1"]
            entries = np.full((2, len(KINDS)), 100)
            cleared = random.integers(0, 90, (2, len(KINDS)))
            kept = {name: {"query": random.random((8, 8)) < 0.5} for name in blocks}
            MaskValues(step, blocks, entries, cleared, kept).write(folder)
    return path


def write_run_with_checkpoint(folder, sources, name):
    """A run, `folder/NAME`, that looked at nothing; with the weights that training begins with."""
    variant, config = VARIANTS[name], config_of(sources, variant=name)
    run = RunFolder(str(folder / name))
    trainer = build_trainer(config, tf.distribute.get_strategy())
    words = VOCABULARY if variant.text else None
    names = {"classes": CLASS_NAMES} if variant.images else None
    Identity(experiment_dict(config), {}, words, names).begin(run)
    trainer.step = 10
    checkpoints.write(run.checkpoints, checkpoints.snapshot(trainer), keep=1)

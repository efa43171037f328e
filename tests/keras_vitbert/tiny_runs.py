"""Tiny runs of `pretrain`: TFRecords and a config for them, the command, and readers of a run.

The fixtures `sources` and `finished` in `tests/conftest.py` make them once for all tests.
"""

import csv
import json
import os
import pathlib

import numpy as np

from pipelines.text.wordpiece import SPECIAL_TOKENS

IMAGES = {"train": 13, "validation": 7}  # neither is a multiple of the batch
DOCUMENTS = {"train": 7, "validation": 4}
BATCH, CLASSES, IMAGE_SIZE, LENGTH, PREDICTIONS = 4, 3, 8, 16, 3
CLASS_NAMES = ["cat", "dog", "tench"]
VOCABULARY = [*SPECIAL_TOKENS, *(f"word{n}" for n in range(31))]

# Epochs of 4 steps, the last one of 2, with validation and checkpoint at the end of each; masks are
# complete after three updates.
CONFIG = """
from keras_vitbert.configs import paper


def get_config():
    return paper.get_config("sample").with_values(
        {{
            "seed": 3,
            "model.num_layers": 1,
            "model.num_heads": 2,
            "model.hidden_dim": 8,
            "model.intermediate_dim": 12,
            "model.image_size": {image_size},
            "model.patch_size": 4,
            "model.num_classes": {classes},
            "model.vocabulary_size": {vocabulary_size},
            "model.max_sequence_length": {length},
            "model.dropout": 0.1,
            "data.images.train": "{folder}/images-train-*",
            "data.images.validation": "{folder}/images-validation-*",
            "data.text.train": "{folder}/text-train-*",
            "data.text.validation": "{folder}/text-validation-*",
            "data.images.crop_area": (0.5, 1.0),
            "data.vocabulary": "{folder}/vocab.txt",
            "image_batch_size": {batch},
            "text_batch_size": {batch},
            "steps": 10,
            "steps_per_epoch": 4,
            "validation_interval": 4,
            "checkpoint_interval": 4,
            "checkpoints_to_keep": 2,
            "optimizer.learning_rate": 1e-2,
            "optimizer.warmup_steps": 2,
            "merge.mask_update_interval": 2,
            "merge.mask_ratio_per_update": 0.2,
            "teachers.image_steps": 3,
            "teachers.text_steps": 4,
            "inspection.gradient_interval": 4,
            "inspection.activation_interval": 0,
        }}
    )
"""


def write_sources(folder, seed=0):
    """Writes TFRecords of both modalities, `vocab.txt`, `classes.txt` and `config.py`."""
    from pipelines.images.image_records import write_image_records
    from pipelines.shards.shard_files import to_example, write_shards
    from pipelines.shards.shard_manifest import TEXT_EXAMPLES
    from pipelines.text.wordpiece import write_vocabulary
    from tests.pipelines.text.token_lists import build_examples, tokenized

    folder = pathlib.Path(folder)
    random = np.random.default_rng(seed)
    for split, count in IMAGES.items():
        labels = random.permutation(np.minimum(np.arange(count) % 4, CLASSES - 1))
        images = random.integers(0, 80, (count, 12, 10, 3)) * (1 + labels)[:, None, None, None]
        write_image_records(images.astype(np.uint8), labels, folder / f"images-{split}", 2)
    for split, count in DOCUMENTS.items():
        # Words of small numbers are the common ones.
        words = [
            [(5 + random.random(random.integers(3, 9)) ** 3 * 31).astype(int) for _ in range(6)]
            for _ in range(count)
        ]
        examples = build_examples(
            tokenized(words),
            max_length=LENGTH,
            max_predictions=PREDICTIONS,
            vocabulary=VOCABULARY,
            seed=seed,
        )
        prefix, settings = folder / f"text-{split}", {"lower_case": True}
        write_shards(map(to_example, examples), prefix, 2, TEXT_EXAMPLES, settings)
    write_vocabulary(str(folder / "vocab.txt"), VOCABULARY)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASS_NAMES))
    (folder / "config.py").write_text(
        CONFIG.format(
            folder=folder,
            batch=BATCH,
            image_size=IMAGE_SIZE,
            classes=CLASSES,
            vocabulary_size=len(VOCABULARY),
            length=LENGTH,
        )
    )
    return folder


def arguments(sources, *argv):
    """Arguments of `pretrain` for the tiny config."""
    return [f"--config={sources / 'config.py'}", *map(str, argv)]


def pretrain(sources, output_dir, *argv):
    """Runs the command in this process; returns its exit status."""
    from keras_vitbert.pretrain import main
    from pipelines import command_line

    argv = arguments(sources, f"--output_dir={output_dir}", *argv)
    return command_line.run(main, argv)


def config_of(sources, *argv, variant="vitbert"):
    """The config of a variant that the command would see."""
    from keras_vitbert.configs.devices import Devices
    from keras_vitbert.experiments.flags import parse_pretraining
    from keras_vitbert.pretrain import define_flags

    argv = arguments(sources, f"--variant={variant}", *argv)
    config = parse_pretraining(argv, define_flags, "usage")[1]
    return config.as_variant(variant).for_devices(Devices())


def checkpoint_values(run_folder):
    """Everything in a run's last checkpoint: dict of name to array."""
    import tensorflow as tf

    folder = pathlib.Path(run_folder) / "checkpoints"
    path = folder / (folder / "LAST").read_text().strip() / "state"
    reader = tf.train.load_checkpoint(os.fspath(path))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def assert_same_values(first, second):
    """Equal to the bit, and the same names."""
    assert set(first) == set(second)
    different = [
        name
        for name in first
        if first[name].dtype != second[name].dtype
        or first[name].tobytes() != second[name].tobytes()
    ]
    assert not different


def metrics_rows(run_folder):
    """The rows of metrics.csv, where there is one, without what depends on the clock."""
    path = pathlib.Path(run_folder) / "metrics.csv"
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [
            {name: value for name, value in row.items() if not name.endswith("_per_second")}
            for row in csv.DictReader(file)
        ]


def content_of(path):
    """The content of a JSON file of a run."""
    return json.loads(pathlib.Path(path).read_text())


def summary_of(run_folder):
    """The content of summary.json."""
    return content_of(pathlib.Path(run_folder) / "summary.json")


def files_below(folder):
    """Relative path to (size, time of change) of every file below a folder."""
    folder = pathlib.Path(folder)
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }

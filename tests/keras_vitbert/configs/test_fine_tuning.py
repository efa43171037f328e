"""The recipes of the paper's downstream tasks."""

import pytest

from keras_vitbert.configs import fine_tuning
from keras_vitbert.configs.sections import flatten
from keras_vitbert.experiments.fine_tuning.tasks import TASKS

# What the paper gives, and the grids of this project.
VISION = {
    "image_size": 384,
    "batch": 512,
    "optimizer.name": "sgd",
    "optimizer.momentum": 0.9,
    "optimizer.schedule": "cosine",
    "optimizer.weight_decay": 0.0,
    "optimizer.clip_norm": 1.0,
    "grid": [0.001, 0.003, 0.01, 0.03],
}
TEXT = {
    "epochs": 3.0,
    "steps": 0,
    "optimizer.name": "adamw",
    "optimizer.schedule": "polynomial",
    "optimizer.weight_decay": 0.01,
    "grid": [2e-5, 3e-5, 5e-5, 1e-4],
}
STEPS = {"cifar10": 10_000, "cifar100": 10_000, "imagenet": 20_000, "pets": 500, "flowers": 500}
OFF = {"optimizer.layer_decay": 1.0, "optimizer.ema": 0.0, "label_smoothing": 0.0, "lora_rank": 0}


@pytest.mark.parametrize("name", TASKS)
def test_recipes(name):
    task = TASKS[name]
    config = fine_tuning.get_config(name, task.kind)
    flat = flatten(config)
    wanted = {**OFF, "metric": "accuracy", **(VISION if task.kind == "images" else TEXT)}
    if task.kind == "images":
        wanted |= {"images.mixup": 0.0, "images.cutmix": 0.0, "images.randaugment": [0, 9]}
    if name == "images":  # what follows from them is empty; AdamW takes fewer steps than SGD
        wanted |= {
            **{f: list(v) if v == () else v for f, v in fine_tuning.ImageTask.CHOSEN.items()},
            "optimizer.name": "adamw",
            "optimizer.weight_decay": 0.01,
        }
        wanted["grid"] = [1e-4, 3e-4, 1e-3, 3e-3]
    if name == "texts":
        wanted |= {**fine_tuning.TextTask.CHOSEN, "grid": [3e-5, 1e-4, 3e-4, 1e-3]}
    assert {key: flat[key] for key in wanted} == wanted
    if name in STEPS:
        assert flat["steps"] == STEPS[name]
    if task.kind == "text" and name != "texts":
        assert config.steps_for(392_702) == round(3 * 392_702 / flat["batch"])

"""Configs of fine-tuning: the paper's recipes, what is refused, what devices and data decide."""

import pytest

from keras_vitbert.configs import fine_tuning
from keras_vitbert.configs.devices import Devices
from keras_vitbert.experiments.fine_tuning.tasks import TASKS


def config_of(name, **changes):
    config = fine_tuning.get_config(name, TASKS[name].kind)
    return config.with_values({key.replace("__", "."): v for key, v in changes.items()})


@pytest.mark.parametrize(
    ("name", "steps"),
    [("cifar10", 10_000), ("cifar100", 10_000), ("imagenet", 20_000), ("pets", 500)],
)
def test_images_are_fine_tuned_as_in_the_paper(name, steps):
    config = config_of(name)
    assert (config.steps, config.batch, config.image_size) == (steps, 512, 384)
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.momentum, optimizer.schedule) == ("sgd", 0.9, "cosine")
    assert (optimizer.clip_norm, optimizer.weight_decay) == (1.0, 0.0)


def test_steps_are_given_or_follow_from_the_epochs():
    assert config_of("pets", steps=7).steps_for(10_000) == 7
    config = config_of("sst2", epochs=2.5, batch=32)
    assert [config.steps_for(count) for count in (1, 6, 64, 1000)] == [1, 1, 5, 78]


def test_what_is_left_to_the_devices():
    config = config_of("sst2", bucket_boundaries=(16, 32))
    on_tpu, here = config.for_devices(Devices(on_tpu=True)), config.for_devices(Devices())
    assert (on_tpu.dtype, on_tpu.bucket_boundaries) == ("mixed_bfloat16", ())
    assert (here.dtype, here.bucket_boundaries) == ("float32", (16, 32))
    assert config.for_devices(Devices(on_jax=True)).bucket_boundaries == ()


@pytest.mark.parametrize(
    ("name", "culprit", "changes"),
    [
        ("pets", "seed", {"seed": 2**31}),
        ("pets", "batch", {"batch": 3, "images__cutmix": 0.1}),
        ("pets", "images.crop_area", {"images__crop_area": ()}),
        ("pets", "head", {"head": "bert"}),
        ("pets", "grid", {"grid": (0.1, 0.1)}),
        ("pets", "evaluation_interval", {"evaluation_interval": 30, "steps_per_epoch": 20}),
        ("sst2", "max_length", {"max_length": 4}),
        ("sst2", "bucket_boundaries", {"bucket_boundaries": (32, 16)}),
        ("texts", "data.sentence_columns", {"data__sentence_columns": "a,b,c"}),
    ],
)
def test_settings_beyond_the_edge_are_refused(name, culprit, changes):
    with pytest.raises(ValueError, match=f"^{culprit}="):
        config_of(name, **changes)


def test_own_data_leave_open_what_follows_from_them():
    images, texts = config_of("images"), config_of("texts")
    assert set(images.open_fields()) == set(fine_tuning.ImageTask.CHOSEN)
    assert set(texts.open_fields()) == set(fine_tuning.TextTask.CHOSEN)
    left = config_of("texts", epochs=2.0).open_fields()
    assert set(left) == {"most_steps", "optimizer.learning_rate"}
    assert config_of("pets").open_fields() == config_of("sst2").open_fields() == []

"""What is chosen for a user's own data, and what is told of it."""

import types

import numpy as np
import pytest

from keras_vitbert.configs import fine_tuning
from keras_vitbert.configs.sections import flatten
from keras_vitbert.experiments.fine_tuning import recommended

SAMPLE = {"image_size": 28, "patch_size": 7, "prefix_tokens": 1, "num_layers": 2}
SAMPLE |= {"hidden_dim": 128, "intermediate_dim": 512}
PAPER = {"image_size": 224, "patch_size": 16, "prefix_tokens": 1, "num_layers": 12}
PAPER |= {"hidden_dim": 768, "intermediate_dim": 3072}


def chosen(model, side, count=1_000, changes=(), **more):
    config = fine_tuning.get_config("images", "images").with_values(dict(changes))
    pictures = recommended.Pictures(np.array([[side, side + 9]]), np.array([3]))
    choice = recommended.Chosen(config, model, **more)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(recommended, "look_at", lambda store: pictures)
        config = choice.choose_for_images(types.SimpleNamespace(count=count))
    assert not config.open_fields() and config is choice.config
    return config, choice.fields


@pytest.mark.parametrize(
    ("model", "side", "size"),
    [
        (SAMPLE, 8, 28),  # as the checkpoint
        (SAMPLE, 32, 35),  # the next multiple of the patch
        (SAMPLE, 500, 49),  # 384 / 224 of the checkpoint's
        (PAPER, 500, 384),  # as in the paper
    ],
)
def test_the_size_of_images(model, side, size):
    assert chosen(model, side)[0].image_size == size


@pytest.mark.parametrize(
    ("count", "replicas", "mixup", "batch", "steps"),
    [
        (1_000, 1, 0.0, 64, 469),  # 30 times 1,000 / 64
        (10**6, 1, 0.0, 64, 10_000),
        (1_000, 3, 0.2, 60, 500),
    ],
)
def test_batch_and_steps(count, replicas, mixup, batch, steps):
    config, _ = chosen(SAMPLE, 28, count, {"images.mixup": mixup}, replicas=replicas)
    assert (config.batch, config.steps) == (batch, steps)


@pytest.mark.parametrize(
    ("images", "texts", "given", "steps", "batches"),
    [
        # 30 passes over 4,000 images take 1,875 steps of 64; 3 over 6,000 texts, 9.6 of each.
        (4_000, 6_000, {}, 1_875, (64, 10)),
        # 5 passes over 2,400 texts take 375 steps of 32; 300 steps see 64 images each.
        (640, 2_400, {}, 375, (52, 32)),
        (640, 2_400, {"steps": 50}, 50, (64, 32)),  # never more than alone
        (4_000, 100, {}, 1_875, (64, 8)),  # never fewer than 8
    ],
)
def test_both_tasks_see_as_many_examples_as_alone(images, texts, given, steps, batches):
    config = fine_tuning.get_config("images,texts", "both").with_values(given)
    choice = recommended.Chosen(config, SAMPLE)
    pictures = recommended.Pictures(np.array([[28, 28]]), np.array([3]))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(recommended, "look_at", lambda store: pictures)
        choice.choose_for_images(types.SimpleNamespace(count=images))
    config = choice.choose_for_both(images, texts, 20.0)
    assert not config.open_fields()
    assert config.steps == steps and (config.image.batch, config.text.batch) == batches


def test_what_is_given_and_what_was_recorded_stays():
    config, keys = chosen(SAMPLE, 28, changes={"image_size": 21, "steps": 7})
    assert (config.image_size, config.steps) == (21, 7) and len(keys) == 3
    # A resumed run goes on with what it began with, whatever the images are like now.
    recorded = flatten(config)
    again, keys = chosen(SAMPLE, 500, 9, recorded=config.to_dict())
    assert flatten(again) == recorded and len(keys) == 5


def test_wider_models_learn_at_a_lower_rate_and_small_images_are_hardly_cropped():
    assert [chosen(SAMPLE, n)[0].images.crop_area for n in (63, 64)] == [(0.8, 1.0), (0.08, 1.0)]
    rates = [chosen(model, 28)[0].optimizer.learning_rate for model in (SAMPLE, PAPER)]
    assert rates == [1e-3, 1.7e-4]


def test_fewer_texts_are_read_more_often():
    open_config = fine_tuning.get_config("texts", "text")
    counts = (100, 1_000, 2_490, 10**6)
    configs = [recommended.Chosen(open_config, PAPER).choose_for_texts(n, 40.0) for n in counts]
    assert not any(config.open_fields() for config in configs)
    assert [config.epochs for config in configs] == [20.0, 12.0, 5.0, 3.0]
    assert {config.optimizer.learning_rate for config in configs} == {7.8e-5}


@pytest.mark.parametrize(
    ("model", "count", "changes", "most"),
    [
        # 64 images of 17 tokens through the sample's blocks take 2.6 GFLOP a step.
        (SAMPLE, 1_000, {}, 8 * 469),
        (SAMPLE, 40_000, {}, 13_339),
        (PAPER, 1_000, {}, 469),  # more would take hours
        (SAMPLE, 1_000, {"steps": 500}, 0),  # their number is given
        (SAMPLE, 1_000, {"most_steps": 600}, 600),
        (SAMPLE, 490, {}, 0),  # 49 held-out images say nothing
    ],
)
def test_the_most_steps(model, count, changes, most):
    assert chosen(model, 28, count, changes)[0].most_steps == pytest.approx(most, abs=1)


@pytest.mark.parametrize(
    ("given", "most", "expected"),
    [
        ({}, 10, (25, 5)),  # divides 500 steps, epochs of 25 and checkpoints every 1,000
        ({"steps_per_epoch": 30, "evaluation_interval": 60}, 100, (30, 10)),
        # One that is given: epochs are multiples of it.
        ({"steps_per_execution": 4, "evaluation_interval": 20}, 1, (20, 4)),
    ],
)
def test_steps_of_an_execution(given, most, expected):
    config = fine_tuning.get_config("pets", "images").with_values(given)
    found = recommended.with_intervals(config, 3_000, [1_000], most)
    executed = found.steps_per_execution
    assert (found.steps_per_epoch, executed) == expected
    for key in ("steps", "steps_per_epoch", "checkpoint_interval", "evaluation_interval"):
        assert found.value(key) % executed == 0


@pytest.mark.parametrize(
    ("given", "evaluated", "expected"),
    [
        ({}, 1000, (25, 25)),  # 20 evaluations of 1,000 are under 3 % of 500 * 512 updates
        ({}, 40_000, (25, 0)),  # none
        ({"steps": 17}, 100, (1, 6)),  # 100 take a batch of 256
        ({"evaluation_interval": 30}, 1000, (15, 30)),  # its ends are ends of epochs
    ],
)
def test_points_of_the_curves(given, evaluated, expected):
    config = fine_tuning.get_config("pets", "images").with_values(given)
    found = recommended.with_intervals(config, 3_000, [evaluated])
    assert (found.steps_per_epoch, found.evaluation_interval) == expected

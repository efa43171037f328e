"""Logits of imported models, checked against Hugging Face's transformers.

The fixtures are made by `make_fixtures.py`.
"""

import json

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert import load as load_trained
from tests.keras_vitbert.trained.stored_models import (
    BERTS,
    VITS,
    assert_close,
    call,
    expected,
    has_float32_products,
    load,
    opened,
)
from tests.marks import slow


@pytest.mark.parametrize("name", BERTS + VITS)
def test_logits(name):
    batch, wanted = expected(name)
    assert_close(call(load(name), batch), wanted)


@pytest.mark.parametrize("name", ["bert", slow("deit_teacher")])
def test_in_bfloat16_inside_a_strategy(name):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        teacher = load(name, dtype="mixed_bfloat16")
    assert {weight.dtype for weight in teacher.weights} == {"float32"}
    assert not teacher.trainable_variables
    batch, wanted = expected(name)
    logits = tf.function(lambda: strategy.run(call, (teacher, batch)))()
    assert_close(logits, wanted, tolerance=16 * 2**-8)  # some roundings to 8 bits
    assert all(has_float32_products(values) for values in logits.values())
    key = "mlm_logits" if "bert" in name else "image_logits"
    assert np.abs(logits[key] - wanted[key]).max() > 1e-4  # it is not computed in float32


def test_whether_texts_are_lower_cased(copy):
    folder = copy("bert")

    def lower_case(**files):
        for name, content in files.items():
            (folder / f"{name}.json").write_text(json.dumps(content))
        return load_trained(str(folder)).lower_case

    assert lower_case()  # as its words are, where no file says it
    vocabulary = (folder / "vocab.txt").read_text()
    (folder / "vocab.txt").write_text(vocabulary.replace("word7", "Word7"))
    assert not lower_case()
    assert lower_case(tokenizer={"normalizer": {"lowercase": True}})
    assert not lower_case(tokenizer_config={"do_lower_case": False})
    assert not lower_case(tokenizer={"normalizer": None}, tokenizer_config={})
    assert opened("masked_lm").lower_case


@pytest.mark.parametrize(
    ("content", "fraction"),
    [
        ({"do_center_crop": True, "size": 256, "crop_size": 224}, 0.875),
        ({"do_center_crop": True, "size": {"shortest_edge": 256}, "crop_size": {"h": 224}}, 0.875),
        ({"size": {"height": 224, "width": 224}}, 1.0),
        ({"do_center_crop": True, "size": 224, "crop_size": 256}, 1.0),
    ],
)
def test_the_part_of_an_image_that_is_used(copy, content, fraction):
    folder = copy("vit_model")
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    assert load_trained(str(folder)).central_crop == fraction


@pytest.mark.parametrize(
    ("content", "mean", "std"),
    [
        ({"rescale_factor": 1 / 127.5, "image_mean": [1] * 3, "image_std": [1] * 3}, 0.5, 0.5),
        ({"do_rescale": False, "image_mean": [51] * 3, "image_std": [255] * 3}, 0.2, 1.0),
        ({"do_normalize": False}, 0.0, 1.0),
    ],
)
def test_mean_and_deviation_are_those_of_images_in_0_to_1(copy, content, mean, std):
    folder = copy("vit_model")
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    backbone = load_trained(str(folder)).backbone
    np.testing.assert_allclose([backbone.image_mean, backbone.image_std], [[mean] * 3, [std] * 3])

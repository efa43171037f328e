"""Imported image models as teachers."""

import tensorflow as tf

from tests.keras_vitbert.importing.stored_models import assert_close, call, expected, load


def test_labels():
    assert load("vit").labels == ["tench, Tinca tinca", "Great_White-Shark", "hen"]


def test_images_of_another_size_are_resized():
    batch, wanted = expected("vit")
    teacher = load("vit")
    large = tf.repeat(tf.repeat(batch["images"], 3, axis=1), 3, axis=2)  # its pixels, nine times
    logits = tf.function(lambda images: call(teacher, {"images": images}))(large)
    # The middle of each nine is what a bilinear resize to a third takes.
    assert_close(logits, wanted)

"""Teachers that a student is distilled from, and one of other sizes."""

import numpy as np
import pytest
from scipy import ndimage

from keras_vitbert.training.distillation import Teacher, Teachers
from tests.keras_vitbert.training.joint_steps import step, values


def test_distillation_without_teachers_is_refused(make_trainer):
    with pytest.raises(ValueError, match="distillation_ratio is 0.5, but teachers is None"):
        make_trainer(distillation_ratio=0.5)


def test_a_teacher_without_a_next_sentence_head_teaches_masked_words(
    make_trainer, make_network, make_batch
):
    whole = make_network(7, images=False)

    def words_alone(inputs, training=None):
        return {"mlm_logits": whole(inputs, training=training)["mlm_logits"]}

    batch = make_batch(0)
    losses = {}
    for name, teacher in (("none", None), ("whole", whole), ("words", words_alone)):
        student = make_network(0, images=False)
        teachers = Teachers(text=teacher)
        trainer = make_trainer(network=student, teachers=teachers, distillation_ratio=0.7)
        losses[name] = step(trainer, batch)
    assert losses["words"]["mlm_loss"] == losses["whole"]["mlm_loss"]
    assert losses["words"]["mlm_loss"] != losses["none"]["mlm_loss"]
    assert losses["words"]["nsp_loss"] == losses["none"]["nsp_loss"]
    assert losses["words"]["nsp_loss"] != losses["whole"]["nsp_loss"]


def test_the_resize_is_bilinear(make_network):
    """By the centres of pixels, without antialiasing: smaller and larger."""
    network = make_network(3)
    for size in (4, 9):
        given = np.random.default_rng(0).random((4, size, size, 3), np.float32)
        zoom = (1, 6 / size, 6 / size, 1)
        images = ndimage.zoom(given, zoom, order=1, mode="nearest", grid_mode=True)
        wanted = network({"images": images})["image_logits"]
        found = Teacher(network)({"images": given})["image_logits"]
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_words_that_the_student_lacks_are_cut_off(make_network, make_batch):
    network, batch = make_network(3), make_batch(0)
    wanted, found = network(batch), Teacher(network, 5)(batch)
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, wanted[name][..., :5])


def test_a_teacher_is_frozen(make_trainer, make_network, make_batch):
    """Its dropout does not act, and no step trains it or counts it as the student's."""
    network, batch = make_network(3, dropout=0.5), make_batch(0)
    wanted, before = network(batch, training=False), values(network.variables)
    teacher = Teacher(network)
    assert not teacher.trainable_variables and len(teacher.weights) == len(network.weights)
    trainer = make_trainer(teachers=Teachers(teacher, teacher), distillation_ratio=1.0)
    assert not {id(v) for v in trainer.variables} & {id(v) for v in network.variables}
    step(trainer, batch)
    for old, new in zip(before, values(network.variables), strict=True):
        np.testing.assert_array_equal(old, new)
    for name, value in teacher(batch, training=True).items():
        np.testing.assert_array_equal(value, wanted[name])
        assert np.abs(network(batch, training=True)[name] - value).max() > 1e-3

"""Teachers that a student is distilled from, and one of other sizes."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.merging import Merge, Sum
from keras_vitbert.training.distillation import Teacher, Teachers
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import SGD
from tests.keras_vitbert.training.joint_steps import step, values


def test_teachers_only_look(make_trainer, make_batch, teachers):
    trainer = make_trainer(teachers=teachers, distillation_ratio=1.0)
    own = {id(v) for v in trainer.variables}
    theirs = [*teachers.image.variables, *teachers.text.variables]
    assert own >= {id(v) for v in trainer.network.variables}
    assert not own & {id(v) for v in theirs}
    before = values(theirs)
    step(trainer, make_batch(0))
    for old, new in zip(before, values(theirs), strict=True):
        np.testing.assert_array_equal(old, new)


def test_distillation_without_teachers_is_refused(make_trainer):
    with pytest.raises(ValueError, match="distillation_ratio is 0.5, but teachers is None"):
        make_trainer(distillation_ratio=0.5)


def test_a_teacher_without_a_next_sentence_head_teaches_masked_words(make_network, make_batch):
    whole = make_network(7, images=False)

    def words_alone(inputs, training=None):
        return {"mlm_logits": whole(inputs, training=training)["mlm_logits"]}

    batch = {name: tf.constant(value) for name, value in make_batch(0).items()}
    losses = {}
    for name, teacher in (("none", None), ("whole", whole), ("words", words_alone)):
        trainer = JointTrainer(
            make_network(0, images=False),
            Merge(Sum()),
            teachers=Teachers(text=teacher),
            distillation_ratio=0.7,
        )
        trainer.compile(optimizer=SGD(0.1))
        losses[name] = step(trainer, batch)
    assert losses["words"]["mlm_loss"] == losses["whole"]["mlm_loss"]
    assert losses["words"]["mlm_loss"] != losses["none"]["mlm_loss"]
    assert losses["words"]["nsp_loss"] == losses["none"]["nsp_loss"]
    assert losses["words"]["nsp_loss"] != losses["whole"]["nsp_loss"]


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def bilinear(images, size):
    """Resized by the centres of pixels, without antialiasing, in float64."""
    for axis in (1, 2):
        old = images.shape[axis]
        places = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        low = np.minimum(places.astype(int), old - 2)
        part = (places - low).reshape([-1 if n == axis else 1 for n in range(4)])
        low, high = (np.take(images, low + n, axis) for n in (0, 1))
        images = low * (1 - part) + high * part
    return images


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((4, 6, 6, 3), np.float32)


def test_the_resize_is_bilinear(make_network, images):
    network, size = make_network(3), 9
    given = bilinear(images, size).astype(np.float32)
    wanted = network({"images": bilinear(given, 6).astype(np.float32)})
    close(Teacher(network)({"images": given})["image_logits"], wanted["image_logits"])


def test_words_that_the_student_lacks_are_cut_off(make_network, make_batch):
    network, batch = make_network(3), make_batch(0)
    wanted, found = network(batch), Teacher(network, 5)(batch)
    assert found.keys() == wanted.keys()
    np.testing.assert_array_equal(found["mlm_logits"], wanted["mlm_logits"][..., :5])
    for name in ("image_logits", "nsp_logits"):
        np.testing.assert_array_equal(found[name], wanted[name])
    assert Teacher(network)(batch)["mlm_logits"].shape[-1] == 13


def test_it_is_frozen(make_network, make_batch):
    network, batch = make_network(3, dropout=0.5), make_batch(0)
    wanted = network(batch, training=False)
    assert any(
        np.abs(value - wanted[name]).max() > 1e-3  # dropout would act
        for name, value in network(batch, training=True).items()
    )
    teacher = Teacher(network)
    assert not teacher.trainable_variables and not network.trainable_variables
    assert len(teacher.weights) == len(network.weights)
    for training in (True, None):
        for name, value in teacher(batch, training=training).items():
            np.testing.assert_array_equal(value, wanted[name])

"""Teachers that a student is distilled from."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.merging import Merge, Sum
from keras_vitbert.training.distillation import Teachers
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import SGD
from tests.keras_vitbert.training.joint_steps import TEMPERATURE, step, values, weights


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


def test_teachers_say_what_they_see(make_batch, teachers):
    batch = make_batch(0)
    logits = teachers(batch)
    assert set(logits) == {"image_logits", "mlm_logits", "nsp_logits"}
    again = teachers({"images": batch["images"]})
    assert set(again) == {"image_logits"}
    np.testing.assert_array_equal(again["image_logits"], logits["image_logits"])
    assert Teachers()(batch) == {}


def test_nothing_is_learnt_from_oneself(make_trainer, make_network, make_batch):
    twin = make_network(0, num_layers=1, dropout=0.5)
    trainer = make_trainer(
        teachers=Teachers(twin, twin), distillation_ratio=1.0, temperature=TEMPERATURE
    )
    trainer.on_cpu = False  # else it is rounded otherwise than its teacher
    before = weights(trainer)
    logs = step(trainer, make_batch(0))
    assert logs["loss"] == logs["image_loss"] == logs["mlm_loss"] == logs["nsp_loss"] == 0
    for old, new in zip(before, weights(trainer), strict=True):
        np.testing.assert_allclose(old, new, atol=1e-5)


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

"""What `fit` and `evaluate` make of a trainer's steps, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.merging import GradientMask, Merge, Sum, Unit
from keras_vitbert.model.pretraining_network import image_inputs, text_inputs
from keras_vitbert.training.optimizers import SGD
from tests.keras_vitbert.training import reference
from tests.keras_vitbert.training.joint_steps import step, tensors


def expected_metrics(network, *batches):
    """NumPy's, of the weights as they are, all batches taken together."""
    w = reference.weights_of(network)
    columns = {"image": [], "mlm": [], "nsp": []}
    for batch in batches:
        image, text = reference.image_logits(batch, w, 3), reference.text_logits(batch, w)
        images = batch.get("image_weights", np.ones(len(batch["images"])))
        texts = batch.get("text_weights", np.ones(len(batch["token_ids"])))
        columns["image"].append((batch["image_labels"], images, image["image_logits"]))
        masked = batch["masked_weights"] * texts[:, None]
        columns["mlm"].append((batch["masked_ids"], masked, text["mlm_logits"]))
        columns["nsp"].append((batch["next_sentence_labels"], texts, text["nsp_logits"]))
    logs = {}
    for task, parts in columns.items():
        joined = [np.concatenate(x) for x in zip(*parts, strict=True)]
        logs |= reference.task_values(task, *joined)
    return logs


def test_metrics_of_training(make_trainer, make_batch):
    trainer = make_trainer(Merge(Sum(0.3)), SGD(0.0))
    expected = expected_metrics(trainer.network, make_batch(0), make_batch(1))
    step(trainer, make_batch(0))
    logs = step(trainer, make_batch(1))
    assert logs.pop("gradient_norm") > 0
    text = expected["mlm_loss"] + expected["nsp_loss"]
    expected["loss"] = 0.3 * expected["image_loss"] + 0.7 * text
    assert logs == pytest.approx(expected, rel=1e-5)


def test_evaluate_counts_every_example_once(make_trainer, make_batch):
    trainer = make_trainer(Merge(Unit(), GradientMask()))
    ones = {"image_weights": np.ones(4, np.float32), "text_weights": np.ones(4, np.float32)}
    batches = [make_batch(0) | ones, make_batch(1) | ones]
    batches[1]["image_weights"] = np.array([1, 1, 0, 1], np.float32)
    batches[1]["text_weights"] = np.array([1, 0, 0, 1], np.float32)
    expected = expected_metrics(trainer.network, *batches)
    expected["loss"] = expected["image_loss"] + expected["mlm_loss"] + expected["nsp_loss"]
    assert not expected == pytest.approx(expected_metrics(trainer.network, *batches[:1]), rel=0.01)
    joined = {n: np.concatenate([b[n] for b in batches]) for n in batches[0]}
    dataset = tf.data.Dataset.from_tensor_slices(joined).batch(4)
    logs = trainer.evaluate(dataset, return_dict=True, verbose=0)
    assert logs == pytest.approx(expected, rel=1e-5)


def test_each_pass_of_a_step_drops_other_units(make_trainer, make_network, make_batch):
    network = make_network(0, num_layers=1, dropout=0.5)
    trainer, batch = make_trainer(Merge(Sum(0.3)), SGD(0.0), network=network), make_batch(0)

    def losses(place):
        logs, ones = {}, np.ones(4)
        for task, inputs, labels in (
            ("image", image_inputs, "image_labels"),
            ("nsp", text_inputs, "next_sentence_labels"),
        ):
            logits = trainer.forward(network, inputs(tensors(batch)), 0, place)[f"{task}_logits"]
            logs |= reference.task_values(task, batch[labels], ones, logits)
        return logs

    logs, (first, second) = step(trainer, batch), map(losses, range(2))
    assert logs["nsp_loss"] == pytest.approx(first["nsp_loss"], rel=1e-5)
    assert logs["image_loss"] == pytest.approx(second["image_loss"], rel=1e-5)
    assert all(abs(first[task] - second[task]) > 1e-3 for task in ("nsp_loss", "image_loss"))


def test_a_request_to_measure_takes_no_request_to_clear_away(make_trainer):
    trainer = make_trainer(Merge(Unit(), GradientMask()))
    for clear, expected in ((0, 0), (7, 7), (0, 7), (5, 5)):
        trainer.request_gradient_stats(clear)
        assert trainer.probe_requested and trainer.clear_counts.numpy() == [expected]

import itertools
import re

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.merging import GradientMask, Merge, Sum, Unit
from keras_vitbert.model.pretraining_network import image_inputs
from keras_vitbert.training.optimizers import decays
from tests.keras_vitbert.training import reference
from tests.keras_vitbert.training.joint_steps import (
    ADAMW,
    NO_CLIP,
    RATIO,
    TEMPERATURE,
    step,
    tensors,
    values,
    weights,
)


def masked(make_trainer, *arguments, **options):
    """A trainer with random masks, and these."""
    trainer = make_trainer(Merge(Unit(), GradientMask()), *arguments, **options)
    rng = np.random.default_rng(5)
    for mask in trainer.merge.mask.masks:
        mask.assign(rng.random(mask.shape) < 0.5)
    return trainer, values(trainer.merge.mask.masks)


def spied(trainer):
    """The gradients of text and of image of each later step: a list of pairs of lists.

    They are in float64, and None where the loss does not reach.
    """
    seen, merge = [], trainer.merge.merge

    def spy(text, image, *arguments):
        seen.append(
            [[None if g is None else np.float64(g) for g in side] for side in (text, image)]
        )
        return merge(text, image, *arguments)

    trainer.merge.merge = spy
    return seen


def merged_by(text, image, weights, own=(1, 1)):
    """The merged gradients.

    `weights` has pairs for the variables that both losses reach, `own` is for the others.
    """
    weights, merged = iter(weights), []
    for t, i in zip(text, image, strict=True):
        if t is None or i is None:
            merged.append(own[1] * i if t is None else own[0] * t)
        else:
            of_text, of_image = next(weights)
            merged.append(of_text * t + of_image * i)
    return merged


# --- one update ----------------------------------------------------------------------------------


def test_a_step_follows_the_gradient_of_the_papers_losses(make_trainer, make_batch, teachers):
    """An entry of every weight against finite differences of the NumPy reference, eq. 1 to 8."""
    trainer, masks = masked(make_trainer, teachers=teachers)
    shared = trainer.network.backbone.shared_variables
    masks = {v.path: mask for v, mask in zip(shared, masks, strict=True)}
    batch = make_batch(1)
    before = reference.weights_of(trainer.network)
    image_teacher = reference.image_logits(batch, reference.weights_of(teachers.image), 3)
    text_teacher = reference.text_logits(batch, reference.weights_of(teachers.text))

    def loss_of(task, labels, row_weights, logits, teacher):
        names = logits[f"{task}_logits"], teacher[f"{task}_logits"], RATIO, TEMPERATURE
        return reference.task_values(task, labels, row_weights, *names)[f"{task}_loss"]

    def image_loss(w):
        logits = reference.image_logits(batch, w, 3)
        return loss_of("image", batch["image_labels"], np.ones(4), logits, image_teacher)

    def text_loss(w):
        logits = reference.text_logits(batch, w)
        mlm = (batch["masked_ids"], batch["masked_weights"], logits, text_teacher)
        nsp = (batch["next_sentence_labels"], np.ones(4), logits, text_teacher)
        return loss_of("mlm", *mlm) + loss_of("nsp", *nsp)

    def slope(loss, path, at):
        sides = []
        for move in (1e-5, -1e-5):
            moved = before[path].copy()
            moved[at] += move
            sides.append(loss({**before, path: moved}))
        return (sides[0] - sides[1]) / 2e-5

    step(trainer, batch)
    after = reference.weights_of(trainer.network)
    rng = np.random.default_rng(0)
    moved = 0
    for path, old in before.items():
        # A gradient that is not zero, where there is one: padding and unused words have none.
        moves = np.flatnonzero(after[path] - old)
        at = np.unravel_index(rng.choice(moves if moves.size else old.size), old.shape)
        if path not in masks:
            expected = slope(image_loss, path, at) + slope(text_loss, path, at)
        else:
            expected = slope(text_loss if masks[path][at] else image_loss, path, at)
        assert old[at] - after[path][at] == pytest.approx(expected, rel=1e-5, abs=1e-6), path
        moved += abs(expected) > 1e-4
    assert moved > 0.9 * len(before)


@pytest.mark.parametrize("ratio", [None, 0.2])
def test_whole_steps(make_trainer, make_batch, teachers, ratio):
    """Four updates of all weights: distillation, merge, clip and AdamW, with its weight decay.

    Two are clipped, two are not: AdamW hardly sees the scale of gradients that are all clipped.
    """
    if ratio is None:
        trainer, masks = masked(make_trainer, ADAMW, teachers=teachers)
        own, of_shared = (1, 1), [(mask, ~mask) for mask in masks]
    else:
        trainer = make_trainer(Merge(Sum(ratio)), ADAMW, teachers=teachers)
        own, of_shared = (1 - ratio, ratio), itertools.repeat((1 - ratio, ratio))
    variables = trainer.network.trainable_variables
    optimizer = reference.AdamW(
        weights(trainer), [decays(v) for v in variables], 0.9, 0.99, 1e-4, 0.1
    )
    seen = spied(trainer)
    for number, limit in enumerate((0.7, NO_CLIP, NO_CLIP, 0.7)):
        trainer.clip_norm = limit
        logs = step(trainer, make_batch(number))
        merged = merged_by(*seen[number], of_shared, own)
        merged, norm = reference.clip_by_global_norm(merged, limit)
        assert norm > 0.7
        assert logs["gradient_norm"] == pytest.approx(norm, rel=1e-5)
        optimizer.apply(merged, reference.learning_rate(number, 0.01, 0, 100, 1.0))
        for variable, expected in zip(variables, optimizer.weights, strict=True):
            np.testing.assert_allclose(
                variable.value, expected, rtol=1e-6, atol=1e-6, err_msg=variable.path
            )


def test_mixed_images_have_two_labels(make_trainer, make_batch, teachers):
    """Against cross-entropy with the mixed distribution of labels, in float64."""
    batch = make_batch(2)
    second = (batch["image_labels"] + np.array([1, 2, 1, 0], np.int32)) % 3
    weight = np.array([0.5, 0.7, 1.0, 0.9], np.float32)
    batch |= {"image_mix_labels": second, "image_mix_weights": weight}
    trainer, inputs = make_trainer(teachers=teachers), image_inputs(tensors(batch))
    logits, taught = (
        np.asarray(network(inputs, training=False)["image_logits"])
        for network in (trainer.network, teachers.image)
    )
    expected = sum(
        share * reference.distillation(labels, logits, taught, RATIO, TEMPERATURE)
        for share, labels in ((weight, batch["image_labels"]), (1 - weight, second))
    )
    logs = step(trainer, batch)
    np.testing.assert_allclose(logs["image_loss"], expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(
        logs["image_accuracy"], (logits.argmax(-1) == batch["image_labels"]).mean()
    )


# --- probing -------------------------------------------------------------------------------------


def test_a_probing_step_measures_and_masks_before_it_merges(make_trainer, make_batch):
    merge = Merge(Unit(), GradientMask())
    trainer = make_trainer(merge)
    seen, before = spied(trainer), weights(trainer)
    trainer.request_gradient_stats(clear=100)
    assert trainer.probe_requested
    step(trainer, make_batch(3), probing=True)

    [(text, image)] = seen
    pairs = zip(text, image, strict=True)
    shared = [(t, i) for t, i in pairs if t is not None and i is not None]
    t, i = (np.concatenate([g.ravel() for g in side]) for side in zip(*shared, strict=True))
    norms = np.sqrt(t @ t), np.sqrt(i @ i)
    assert trainer.probe_values() == pytest.approx(
        {
            "text_gradient_norm": norms[0],
            "image_gradient_norm": norms[1],
            "gradient_cosine": t @ i / (norms[0] * norms[1]),
        },
        rel=1e-5,
    )
    masks = [np.ones(m.shape, bool) for m in merge.mask.masks]
    masks = reference.algorithm_1(masks, [g for g, _ in shared], 100)
    for mask, expected in zip(merge.mask.masks, masks, strict=True):
        np.testing.assert_array_equal(mask.numpy(), expected)
    merged = merged_by(text, image, [(mask, ~mask) for mask in masks])
    for old, new, gradient in zip(before, weights(trainer), merged, strict=True):
        np.testing.assert_allclose(new, old - gradient, rtol=1e-5, atol=1e-6)

    probe = trainer.probe_values()
    step(trainer, make_batch(4))  # an ordinary one
    assert trainer.probe_values() == probe
    for mask, expected in zip(merge.mask.masks, masks, strict=True):
        np.testing.assert_array_equal(mask.numpy(), expected)


def waited_for(*operations):
    """The operations of a graph that these wait for, directly or not, and they themselves."""
    found, waiting = set(), list(operations)
    while waiting:
        operation = waiting.pop()
        if operation not in found:
            found.add(operation)
            waiting += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return found


@pytest.mark.slow
def test_passes_in_turn_change_nothing(make_trainer, make_network, make_batch):
    """The pass of images waits for the gradients of text, so one pass at a time is in memory."""
    found = []
    for in_turn in (False, True):
        network = make_network(0, num_layers=3, dropout=0.2)
        trainer = make_trainer(network=network)
        trainer.in_turn = in_turn
        batch = tensors(make_batch(3))
        run = tf.function(trainer.train_step)
        graph = run.get_concrete_function(batch).graph
        run_for = waited_for(*(tensor.op for tensor in graph.outputs), *graph.control_outputs)
        large = [one for one in run_for if re.search("MatMul|PartitionedCall", one.type)]
        text, images = (
            {one for one in large if name in one.name.split("/")} for name in ("text", "image")
        )
        waits = {len(waited_for(product) & text) for product in images}
        assert text and images and waits == {len(text) if in_turn else 0}
        run(batch)
        found.append(weights(trainer))
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)

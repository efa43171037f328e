"""Packed texts are the same texts: logits, losses, and the update of a step."""

import numpy as np
import pytest

from keras_vitbert.configs import merges
from keras_vitbert.merging import get_merge
from keras_vitbert.model.pretraining_network import text_inputs
from pipelines.text_stream import packed
from tests.keras_vitbert.training.joint_steps import step, tensors, values, weights
from tests.marks import slow

TEXTS = 12


@pytest.fixture(scope="module")
def batch(make_batch):
    """Texts of all lengths, masked anywhere."""
    batch, rng = make_batch(0, texts=TEXTS), np.random.default_rng(0)
    length = batch["token_ids"].shape[1]
    sizes = rng.permutation(np.linspace(2, length, TEXTS).astype(np.int32))[:, None]
    return batch | {
        "padding_mask": (np.arange(length) < sizes).astype(np.int32),
        "masked_positions": rng.integers(0, sizes, batch["masked_positions"].shape, np.int32),
    }


def test_no_text_sees_another(network, batch):
    inputs = text_inputs(packed(tensors(batch)))
    assert inputs["token_ids"].shape[0] < 0.8 * TEXTS
    changed = {**batch, "token_ids": batch["token_ids"].copy()}
    changed["token_ids"][5] = (changed["token_ids"][5] + 1) % network.backbone.vocabulary_size
    found, other = network(inputs), network(text_inputs(packed(tensors(changed))))
    for name in ("mlm_logits", "nsp_logits"):
        differs = np.any(np.reshape(found[name] != other[name], (TEXTS, -1)), -1)
        np.testing.assert_array_equal(np.flatnonzero(differs), [5])


@pytest.mark.parametrize(("parts", "remat"), [(1, False), slow(2, True)])
def test_a_step_moves_the_weights_as_without(make_trainer, batch, teachers, parts, remat):
    """With teachers, a clip that acts, masks and Algorithm 1; in parts, which are packed apart."""
    found = []
    for is_packed in (False, True):
        trainer = make_trainer(
            get_merge(merges.Merge(name="mask")),
            clip_norm=0.5,
            teachers=teachers,
            accumulation=parts if is_packed else 1,
            remat=remat and is_packed,
        )
        before = weights(trainer)
        trainer.request_gradient_stats(100)
        given = packed(tensors(batch), parts) if is_packed else batch
        logs = step(trainer, given, probing=True)
        found.append((logs, weights(trainer), values(trainer.merge.mask.masks)))
    (logs, whole, masks), (packed_logs, ours, packed_masks) = found
    assert logs["gradient_norm"] > 0.5
    assert packed_logs == pytest.approx(logs, rel=1e-5)
    assert max(np.abs(new - old).max() for new, old in zip(whole, before, strict=True)) > 0.01
    for a, b in zip(ours, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    for a, b in zip(packed_masks, masks, strict=True):
        np.testing.assert_array_equal(a, b)


def test_dropout_has_a_place_for_every_text(make_trainer, make_network, batch, monkeypatch):
    """The rows of a step differ in number, those that dropout has numbers for do not."""
    trainer = make_trainer(network=make_network(0, num_layers=1, dropout=0.2))
    seen, keyed = [], trainer.dropout.keyed
    monkeypatch.setattr(
        trainer.dropout, "keyed", lambda *args: seen.append(args[-1]) or keyed(*args)
    )
    step(trainer, packed(tensors(batch)))
    assert sorted(seen, key=str) == [TEXTS, None]  # of the texts, of the images

"""Google's own checkpoints: checked against Google's formulas, and refused if damaged."""

import numpy as np
import pytest

from keras_vitbert import load
from tests.keras_vitbert.trained import google_models
from tests.keras_vitbert.trained.stored_models import assert_close, call


def test_bert(tmp_path):
    variables = google_models.bert_variables()
    prefix = google_models.write_bert(tmp_path / "bert", variables)
    batch = google_models.texts()
    for path in (prefix, str(tmp_path / "bert")):
        trained = load(path)
        assert_close(call(trained.network, batch), google_models.bert_logits(variables, batch))
    assert trained.vocabulary == google_models.TOKENS and trained.lower_case


@pytest.mark.parametrize("pre_logits", [None, 17])
def test_vit(tmp_path, pre_logits):
    arrays = google_models.vit_arrays(pre_logits=pre_logits)
    path = tmp_path / "ViT-B_16.npz"
    np.savez(path, **arrays)
    images = np.random.default_rng(1).random((2, 9, 9, 3), np.float32)
    trained = load(str(path))
    wanted = {"image_logits": google_models.vit_logits(arrays, images)}
    assert_close(call(trained.network, {"images": images}), wanted)
    assert trained.classes is None


def test_bad_berts(refused, tmp_path):
    variables = google_models.bert_variables()
    prefix = google_models.write_bert(tmp_path, variables, google_models.BERT | {"vocab_size": 31})
    refused(prefix, "word_embeddings")
    google_models.write_bert(tmp_path, variables, google_models.BERT | {"num_hidden_layers": 1})
    refused(prefix, "bert/encoder/layer_1/")
    for name in ("vocab.txt", "bert_config.json"):
        (tmp_path / name).unlink()
        refused(prefix, f"no {name}")
    for name in ("bert_model.ckpt.data-00000-of-00001", "bert_model.ckpt.index"):
        google_models.write_bert(tmp_path, variables)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        refused(tmp_path, "cannot be read")


def test_bad_vits(refused, tmp_path):
    arrays = google_models.vit_arrays()
    path = tmp_path / "vit.npz"
    positions = "Transformer/posembed_input/pos_embedding"
    for name, value in (
        ("head/bias", None),
        ("conv_root/kernel", np.zeros(1)),
        (positions, np.zeros((1, 9, 15), np.float32)),
    ):
        changed = {**arrays, name: value}
        np.savez(path, **{name: value for name, value in changed.items() if value is not None})
        refused(path, name.partition("/")[0])
    content = path.read_bytes()
    path.write_bytes(content[:2000] + b"damaged" + content[2007:])
    refused(path, "cannot be read")

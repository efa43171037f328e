"""Google's own checkpoints: checked against Google's formulas, and refused if damaged."""

import io
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert import load
from tests.keras_vitbert.trained import google_models


def assert_close(logits, wanted):
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_bert(tmp_path):
    variables = google_models.bert_variables()
    prefix = google_models.write_bert(tmp_path / "bert", variables)
    batch = google_models.texts(0)
    wanted = google_models.bert_logits(variables, batch)
    for path in (prefix, str(tmp_path / "bert")):
        trained = load(path)
        logits = trained.network({name: tf.constant(value) for name, value in batch.items()})
        assert set(logits) == set(wanted)
        for name in wanted:
            assert_close(logits[name], wanted[name])
    assert trained.vocabulary == google_models.TOKENS and trained.lower_case
    backbone = trained.backbone
    assert (backbone.norm, backbone.activation, backbone.layer_norm_epsilon) == (
        "post",
        "gelu_tanh",  # whatever the config calls it
        1e-12,
    )


@pytest.mark.parametrize("pre_logits", [None, 17])
def test_vit(tmp_path, pre_logits):
    arrays = google_models.vit_arrays(pre_logits=pre_logits)
    path = tmp_path / "ViT-B_16.npz"
    np.savez(path, **arrays)
    images = np.random.default_rng(1).random((2, 9, 9, 3), np.float32)
    trained = load(str(path))
    logits = trained.network({"images": images})["image_logits"]
    assert_close(logits, google_models.vit_logits(arrays, images))
    assert (trained.network.num_classes, trained.backbone.image_size) == (3, 9)
    assert trained.classes is None

    backbone = trained.backbone
    assert (backbone.activation, backbone.image_mean) == ("gelu_tanh", (0.5, 0.5, 0.5))
    wanted = arrays["Transformer/encoderblock_1/MultiHeadDotProductAttention_1/out/kernel"]
    found = {weight.path: np.asarray(weight) for weight in backbone.weights}
    found = found["block_1/self_attention_layer/attention_output/kernel"]
    np.testing.assert_array_equal(found, wanted)


def refused(path, message):
    with pytest.raises(ValueError, match=message) as error:
        load(str(path))
    assert "\n" not in str(error.value) and str(error.value).startswith(str(path))


def test_bad_berts(tmp_path):
    variables = google_models.bert_variables()
    folder = tmp_path / "bert"
    prefix = google_models.write_bert(folder, variables)
    for name in ("bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        refused(folder, "cannot be read")
        (folder / name).write_bytes(content)
    for name in ("vocab.txt", "bert_config.json"):
        (folder / name).rename(folder / "away")
        refused(prefix, f"no {name}")
        (folder / "away").rename(folder / name)
    # Another number of layers; another vocabulary.
    google_models.write_bert(folder, variables, {**google_models.BERT, "num_hidden_layers": 1})
    refused(prefix, "bert/encoder/layer_1/")
    google_models.write_bert(folder, variables, {**google_models.BERT, "vocab_size": 31})
    refused(prefix, "word_embeddings")


def test_bad_vits(tmp_path):
    arrays = google_models.vit_arrays()
    path = tmp_path / "vit.npz"

    def write(changes):
        changed = {**arrays, **changes}
        np.savez(path, **{name: value for name, value in changed.items() if value is not None})

    write({})
    content = path.read_bytes()
    path.write_bytes(content[:2000] + b"damaged" + content[2007:])
    refused(path, "cannot be read")
    header = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": (2**50,)}  # 4 PiB
    np.lib.format.write_array_header_1_0(header, about)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("head/bias.npy", header.getvalue())
    refused(path, "cannot be read")
    positions = "Transformer/posembed_input/pos_embedding"
    for changes in (
        {"head/bias": None},
        {"embedding/kernel": None},
        {"conv_root/kernel": np.zeros(1)},
        {positions: np.zeros((1, 9, 15), np.float32)},
    ):
        write(changes)
        refused(path, min(changes).partition("/")[0])

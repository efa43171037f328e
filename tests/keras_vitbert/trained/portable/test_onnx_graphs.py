"""Graphs as onnxruntime answers, beside transformers, the Keras model and themselves in int8."""

import dataclasses

import keras
import numpy as np
import onnx
import pytest

from keras_vitbert.model.heads import class_head
from keras_vitbert.trained.portable import onnx_graphs
from keras_vitbert.trained.portable.comparison import keras_logits, random_batches
from keras_vitbert.trained.portable.onnx_graphs import open_graph, write_onnx
from keras_vitbert.trained.trained_model import TrainedModel
from tests.keras_vitbert.trained.stored_models import expected, opened
from tests.marks import slow

TEXTS = ("bert", "distilbert", "distilbert_classifier", "masked_lm", "untied")


def answer(folder, head, inputs):
    return open_graph(str(folder / f"{head}.onnx")).run([f"{head}_logits"], inputs)[0]


@pytest.mark.parametrize("name", ["bert_classifier", *map(slow, TEXTS)])
def test_texts_as_transformers_answer(name, tmp_path):
    trained = opened(name)
    write_onnx(trained, str(tmp_path))
    batch, logits = expected(name)
    names = "token_ids", "segment_ids", "padding_mask"
    inputs = {name: np.asarray(batch[name], np.int32) for name in names}
    [head] = trained.heads
    found = answer(tmp_path, head, inputs)
    if head == "mlm":
        found = np.take_along_axis(found, np.asarray(batch["masked_positions"])[:, :, None], 1)
    wanted = logits[f"{head}_logits"]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * abs(wanted).max())


@pytest.mark.parametrize("name", ["deit", slow("vit"), slow("vit_half")])
def test_images_as_keras_answers(name, tmp_path):
    trained = opened(name)
    write_onnx(trained, str(tmp_path))
    size = trained.backbone.image_size
    images = np.random.default_rng(5).integers(0, 256, (3, size, size, 3), np.uint8)
    wanted = keras_logits(trained, "image", {"images": images})
    np.testing.assert_allclose(answer(tmp_path, "image", {"images": images}), wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["paper", "bert", "distilbert", "vit"])
@pytest.mark.parametrize(
    "options",
    [
        {"norm": "post", "activation": "gelu_tanh", "patch_bias": True},
        {"activation": "silu", "num_segments": 0, "embedding_scale": 3.0},
        {"activation": "relu", "prefix_tokens": 2, "image_std": (0.2, 0.3, 0.4)},
    ],
)
def test_variants_as_keras_answers(kind, options, make_network, randomize, tmp_path):
    backbone = make_network(**options).backbone
    heads = {name: randomize(class_head(kind, 3, backbone, name), 7) for name in ("image", "text")}
    trained = TrainedModel("p", "n", backbone, heads, central_crop=1.0)
    write_onnx(trained, str(tmp_path))
    for head in heads:
        for inputs in random_batches(trained, head):
            wanted = keras_logits(trained, head, inputs)
            np.testing.assert_allclose(answer(tmp_path, head, inputs), wanted, atol=1e-4)


@pytest.fixture
def shared(monkeypatch):
    """Tiny kernels, too, go to the file of weights; not shapes, which must stay in graphs."""
    monkeypatch.setattr(onnx_graphs, "_SHARED_BYTES", 49)


@pytest.mark.parametrize("int8", [False, True])
def test_weights_are_stored_once_and_int8_answers_alike(trained, shared, int8, tmp_path):
    write_onnx(trained, str(tmp_path), int8)
    stored, uses = {}, 0
    for head in trained.heads:
        graph = onnx.load(tmp_path / f"{head}.onnx", load_external_data=False)
        for tensor in graph.graph.initializer:
            place = {entry.key: entry.value for entry in tensor.external_data}
            if not place:
                continue
            stored[int(place["offset"])] = int(place["length"])
            uses += 1
    content = (tmp_path / "weights.bin").read_bytes()
    assert len(stored) == len({content[k : k + stored[k]] for k in stored}) < uses
    assert len(content) <= sum(stored.values()) + 64 * len(stored)
    lengths = list(stored.values())
    assert (lengths.count(8 * 8) >= 4, lengths.count(8 * 12) >= 2) == (int8, int8)  # in bytes
    for head in trained.heads:
        [*_, inputs] = random_batches(trained, head)
        found, wanted = answer(tmp_path, head, inputs), keras_logits(trained, head, inputs)
        assert 0 < np.abs(found - wanted).max() < (0.3 if int8 else 1e-4)
        assert np.mean(found.argmax(-1) == wanted.argmax(-1)) > (0.8 if int8 else 0.99)


@pytest.mark.parametrize(
    ("gelu", "culprit"),
    [
        (keras.activations.gelu, "Erfc"),  # an operation that ONNX does not have
        (lambda x: keras.activations.gelu(x, approximate=True), "differ by"),
    ],
)
def test_other_graphs_are_refused(gelu, culprit, make_trained, monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_graphs, "_gelu", gelu)
    with pytest.raises(ValueError, match=culprit):
        write_onnx(make_trained("image", text=False), str(tmp_path))


def test_lora_and_bfloat16_become_float32(classifier, tmp_path):
    low = classifier.in_dtype("bfloat16")
    write_onnx(dataclasses.replace(low).in_dtype("float32"), str(tmp_path))
    [inputs, _] = random_batches(classifier, "text")
    wanted = keras_logits(classifier, "text", inputs)
    found = answer(tmp_path, "text", inputs)
    assert 0 < np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()

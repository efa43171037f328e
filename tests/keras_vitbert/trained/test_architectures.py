"""The network that a BERT or ViT of another project becomes, and the facts about it.

The fixtures are made by `make_fixtures.py`, with Hugging Face's transformers.
"""

import json
import shutil

import numpy as np
import pytest
import safetensors.numpy

from keras_vitbert.model.classifier import Classifier
from keras_vitbert.model.pretraining_network import PreTrainingNetwork
from keras_vitbert.trained import loading
from tests.keras_vitbert.trained.stored_models import (
    FIXTURES,
    assert_close,
    block_outputs,
    expected,
    image_tokens,
    opened,
    real,
    stored,
)
from tests.keras_vitbert.trained.student import TOKENS

MOODS = ["bad", "so so", "good"]
ANIMALS = ["tench, Tinca tinca", "Great_White-Shark", "hen"]


@pytest.fixture
def changed(copy, tmp_path):
    """`changed(name, config, tensors) -> TrainedModel` of a stored model; None leaves out."""

    def changed(name, config=None, tensors=None):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        folder = copy(name)
        content = json.loads((folder / "config.json").read_text()) | (config or {})
        (folder / "config.json").write_text(json.dumps(content))
        path = folder / "model.safetensors"
        found = {**safetensors.numpy.load_file(path), **(tensors or {})}
        found = {name: value for name, value in found.items() if value is not None}
        safetensors.numpy.save_file(found, path)
        return loading.load(str(folder))

    return changed


def stored_tensor(name, tensor):
    return safetensors.numpy.load_file(FIXTURES / name / "model.safetensors")[tensor]


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


# --- what it computes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["bert_model", "bert_classifier", "distilbert", "distilbert_classifier"]
)
def test_hidden_states_of_every_block(name):
    arrays = stored(name)
    found = block_outputs(opened(name).backbone, arrays)
    wanted = real(arrays["hidden_states"], arrays)
    assert found.shape == wanted.shape == (3, 3, 13, 15)
    for states, others in zip(found, wanted, strict=True):
        close(states, others)


@pytest.mark.parametrize("name", ["bert_classifier", "distilbert_classifier"])
def test_a_text_classifier(name):
    trained = opened(name)
    batch, wanted = expected(name)
    assert_close({"text_logits": trained.network(batch, training=False)}, wanted)
    assert isinstance(trained.network, Classifier) and trained.network.kind == "text"
    assert (trained.classes, trained.vocabulary) == (MOODS, TOKENS)
    assert set(trained.heads) == {"text"} and trained.heads["text"] is trained.network.head


def test_a_bert_without_heads_keeps_its_pooler():
    trained = opened("bert_model")
    batch, _ = expected("bert_model")
    wanted = stored("bert_model")
    sequence = trained.backbone(batch)["text_sequence"]
    close(real(sequence[None], wanted), real(wanted["hidden_states"][-1:], wanted))
    close(trained.network.pooler(sequence[:, 0]), wanted["pooled"])
    assert trained.heads == {} and trained.network(batch) == {}
    assert (trained.classes, trained.vocabulary) == (None, TOKENS)


def test_tokens_of_a_vit_without_a_head():
    trained = opened("vit_model")
    tokens, wanted = image_tokens(trained.backbone, "vit_model")
    close(tokens, wanted["tokens"])
    assert trained.heads == {} and trained.backbone.image_mean == (0.5,) * 3
    read = safetensors.numpy.load_file(FIXTURES / "vit_model" / "model.safetensors")
    pooled = tokens[:, 0] @ read["pooler.dense.weight"].T + read["pooler.dense.bias"]
    close(trained.network.pooler(tokens[:, 0]), np.tanh(pooled))


def test_logits_of_a_vit_with_its_own_mean_and_deviation():
    backbone = opened("vit").backbone
    assert backbone.image_mean == (0.41, 0.52, 0.33) and backbone.image_std == (0.21, 0.32, 0.17)
    tokens, wanted = image_tokens(backbone, "vit")
    weight, bias = (stored_tensor("vit", f"classifier.{name}") for name in ("weight", "bias"))
    close(tokens[:, 0] @ weight.T + bias, wanted["image_logits"])


# --- what it is --------------------------------------------------------------------------------


def test_a_bert_is_a_backbone_that_normalises_after_its_blocks():
    backbone = opened("masked_lm").backbone
    assert backbone.norm == "post" and backbone.final_norm is None
    assert (backbone.activation, backbone.layer_norm_epsilon) == ("gelu_tanh", 1e-3)
    assert (backbone.num_layers, backbone.num_heads, backbone.hidden_dim) == (2, 5, 15)
    assert (backbone.vocabulary_size, backbone.max_sequence_length) == (37, 19)
    assert (backbone.num_segments, backbone.dropout, backbone.image_size) == (2, 0.1, None)


def test_a_distilbert_has_no_segments():
    backbone = opened("distilbert_classifier").backbone
    assert backbone.num_segments == 0 and backbone.text_embedding.segment_embedding is None
    assert (backbone.activation, backbone.layer_norm_epsilon) == ("relu", 1e-12)
    assert (backbone.norm, backbone.dropout, backbone.max_sequence_length) == ("post", 0.1, 19)


@pytest.mark.parametrize(("name", "prefix_tokens"), [("vit", 1), ("deit", 2)])
def test_a_vit_is_a_backbone_that_normalises_before_its_blocks(name, prefix_tokens):
    backbone = opened(name).backbone
    assert backbone.norm == "pre" and backbone.embedding_norm is None
    assert (backbone.image_size, backbone.patch_size, backbone.patch_bias) == (9, 3, True)
    assert backbone.prefix_tokens == prefix_tokens and backbone.vocabulary_size is None
    assert (backbone.activation, backbone.dropout) == ("gelu", 0.0)


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("bert", {"mlm": "bert", "nsp": "bert"}),
        ("masked_lm", {"mlm": "bert"}),  # no next-sentence head
        ("untied", {"mlm": "bert_untied", "nsp": "bert"}),
        ("distilbert", {"mlm": "bert"}),
        ("bert_classifier", {"text": "bert"}),
        ("distilbert_classifier", {"text": "distilbert"}),
        ("bert_model", {"pooler": "bert"}),
        ("vit", {"image": "vit"}),
        ("deit", {"image": "vit"}),
        ("deit_teacher", {"image": "deit"}),
        ("vit_model", {"pooler": "bert"}),
    ],
)
def test_its_heads(name, heads):
    network = opened(name).network
    if isinstance(network, Classifier):
        assert {"text": network.head_kind} == heads and network.num_classes == 3
    else:
        assert network.heads == heads
        assert network.num_classes == (3 if "image" in heads else None)


def test_labels(changed):
    for name in ("vit", "deit_teacher"):
        assert opened(name).classes == ANIMALS
    assert opened("bert_classifier").classes == MOODS
    # Without them there are as many classes as the classifier has rows.
    vit = changed("vit", {"id2label": None})
    assert (vit.classes, vit.network.num_classes) == (None, 3)
    # Configs of what is no classifier keep those of an earlier model.
    assert changed("bert", {"id2label": {"0": "LABEL", "1": "x"}}).classes is None


def test_the_network_is_of_the_dtype_that_is_asked_for():
    network = opened("vit_model", "bfloat16").network
    assert isinstance(network, PreTrainingNetwork)
    assert {weight.dtype for weight in network.weights} == {"bfloat16"}
    assert opened("bert_model", "mixed_bfloat16").backbone.compute_dtype == "bfloat16"


# --- what it takes of a checkpoint -------------------------------------------------------------


def test_what_a_bare_bert_leaves_out(changed):
    """Heads that its architecture does not have, and what older versions stored beside."""
    bare = {"architectures": ["BertModel"]}
    more = {"bert.embeddings.position_ids": np.arange(19)[None]}
    assert changed("bert", bare, more).network.heads == {"nsp": "bert"}
    without = dict.fromkeys(("cls.seq_relationship.weight", "cls.seq_relationship.bias"))
    assert changed("bert", bare, without).network.heads == {"pooler": "bert"}
    pooler = dict.fromkeys(("bert.pooler.dense.weight", "bert.pooler.dense.bias"))
    assert changed("bert", bare, without | pooler).network.heads == {}


def test_a_decoder_is_tied_unless_it_differs(changed):
    word = stored_tensor("bert", "bert.embeddings.word_embeddings.weight")
    decoder, untied = "cls.predictions.decoder.weight", {"tie_word_embeddings": False}
    for config, value, tied in (({}, word, True), ({}, 2 * word, False), (untied, word, False)):
        head = changed("bert", config, {decoder: value}).heads["mlm"]
        assert head.tied == tied
        if not tied:
            np.testing.assert_array_equal(np.transpose(head.logits.kernel), value)
    with pytest.raises(ValueError, match=r"cls\.predictions\.decoder\.we"):
        changed("bert", untied)


def test_the_bias_of_words_may_be_stored_as_the_decoder_s(changed):
    bias = np.arange(37, dtype=np.float32)
    tensors = {"cls.predictions.bias": None, "cls.predictions.decoder.bias": bias}
    np.testing.assert_array_equal(changed("bert", {}, tensors).heads["mlm"].logits.bias, bias)


def test_more_rows_than_words_are_taken(copy):
    folder, tokens = copy("bert"), TOKENS[:34]
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens))
    assert loading.load(str(folder)).vocabulary == tokens


def test_biases_that_a_vit_does_not_have_are_0():
    attention = opened("vit_half").backbone.blocks[1]._self_attention_layer
    for layer in (attention.query_dense, attention.value_dense):
        assert not np.any(layer.bias) and np.any(layer.kernel)


def test_keys_of_a_vit_s_config(changed):
    assert changed("vit", {"pooler_act": "gelu"}).heads  # it has no pooler
    assert changed("vit_model", {"pooler_act": "tanh"}).network.pooler
    sizes = changed("vit", {"image_size": [9, 9], "patch_size": [3, 3]}).backbone
    assert (sizes.image_size, sizes.patch_size) == (9, 3)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"problem_type": "multi_label_classification"}, "'multi_label_classification'"),
    ],
)
@pytest.mark.parametrize("name", ["bert_classifier", "vit"])
def test_a_head_that_chooses_no_class_is_left_out(copy, name, change, told, capsys):
    folder = copy(name)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **change}))
    trained = loading.load(str(folder))
    assert f"its head is for {told}; only the encoder is used\n" in capsys.readouterr().err
    assert trained.heads == {} and trained.classes is None
    whole = loading.load(str(FIXTURES / name)).backbone
    for ours, theirs in zip(trained.backbone.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"do_lower_case": True, "strip_accents": False}, "strip_accents=False"),
        ({"strip_accents": False, "do_lower_case": False}, None),  # as of any cased BERT
        ({"strip_accents": True}, None),
        ({"tokenize_chinese_chars": False}, "tokenize_chinese_chars=False"),
    ],
)
def test_another_tokenizer_is_told(copy, content, told, capsys):
    folder = copy("bert")
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    loaded = loading.load(str(folder))
    assert loaded.lower_case == content.get("do_lower_case", True)
    err = capsys.readouterr().err
    assert f"its tokenizer has {told}; here" in err if told else not err


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("[MASK]", "maskless", r"\[MASK\] missing"),
        ("word1", "word0", "'word0' occurs twice"),
    ],
)
def test_a_vocabulary_that_encodes_no_text_is_refused(copy, old, new, reason):
    folder = copy("bert")
    tokens = (folder / "vocab.txt").read_text().split()
    (folder / "vocab.txt").write_text("".join(f"{new if t == old else t}\n" for t in tokens))
    with pytest.raises(ValueError, match=f"^{folder}: .*vocab.txt: {reason}"):
        loading.load(str(folder))

"""The network that a BERT or ViT of another project becomes, and the facts about it.

The fixtures are made by `make_fixtures.py`, with Hugging Face's transformers.
"""

import json
import shutil

import numpy as np
import pytest
import safetensors.numpy

from keras_vitbert.model.classifier import Classifier
from keras_vitbert.trained import loading
from tests.keras_vitbert.trained.stored_models import (
    FIXTURES,
    block_outputs,
    expected,
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


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


# --- what it computes --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bert_model", "bert_classifier", "distilbert_classifier"])
def test_hidden_states_of_every_block(name):
    arrays = stored(name)
    found = block_outputs(opened(name).backbone, arrays)
    wanted = real(arrays["hidden_states"], arrays)
    assert found.shape == wanted.shape == (3, 3, 13, 15)
    for states, others in zip(found, wanted, strict=True):
        close(states, others)


def test_a_bert_without_heads_keeps_its_pooler():
    trained = opened("bert_model")
    batch, _ = expected("bert_model")
    wanted = stored("bert_model")
    sequence = trained.backbone(batch)["text_sequence"]
    close(real(sequence[None], wanted), real(wanted["hidden_states"][-1:], wanted))
    close(trained.network.pooler(sequence[:, 0]), wanted["pooled"])
    assert trained.heads == {} and trained.network(batch) == {}
    assert (trained.classes, trained.vocabulary) == (None, TOKENS)


# --- what it is --------------------------------------------------------------------------------


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
    tensors = safetensors.numpy.load_file(FIXTURES / "bert" / "model.safetensors")
    word = tensors["bert.embeddings.word_embeddings.weight"]
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


@pytest.mark.parametrize("name", ["bert_classifier", "vit"])
def test_a_head_that_chooses_no_class_is_left_out(changed, name, capsys):
    trained = changed(name, {"problem_type": "multi_label_classification"})
    assert "'multi_label_classification'" in capsys.readouterr().err
    assert trained.heads == {} and trained.classes is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"do_lower_case": True, "strip_accents": False}, "strip_accents=False"),
        ({"strip_accents": False, "do_lower_case": False}, None),  # as of any cased BERT
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


def test_a_vocabulary_that_encodes_no_text_is_refused(copy):
    folder = copy("bert")
    tokens = (folder / "vocab.txt").read_text()
    (folder / "vocab.txt").write_text(tokens.replace("[MASK]", "maskless"))
    with pytest.raises(ValueError, match=f"^{folder}: .*vocab.txt: "):
        loading.load(str(folder))

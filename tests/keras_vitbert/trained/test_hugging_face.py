"""Models of Hugging Face's transformers: their logits, and the facts about them.

The fixtures are made by `make_fixtures.py`.
"""

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from keras_vitbert import load
from keras_vitbert.training.distillation import Teacher
from tests.keras_vitbert.trained.stored_models import (
    FIXTURES,
    assert_close,
    call,
    expected,
    opened,
    stored,
)
from tests.keras_vitbert.trained.student import TOKENS

BERTS = ("bert", "masked_lm", "untied", "distilbert", "bert_classifier", "distilbert_classifier")
VITS = ("vit", "vit_half", "deit", "deit_teacher")
MOODS = ["bad", "so so", "good"]
ANIMALS = ["tench, Tinca tinca", "Great_White-Shark", "hen"]


@pytest.mark.parametrize("name", BERTS + VITS)
def test_logits(name):
    batch, wanted = expected(name)
    assert_close(call(opened(name).network, batch), wanted)


def test_in_bfloat16_inside_a_strategy():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        teacher = Teacher(opened("bert", "mixed_bfloat16").network)
    assert {weight.dtype for weight in teacher.weights} == {"float32"}
    assert not teacher.trainable_variables
    batch, wanted = expected("bert")
    logits = tf.function(lambda: strategy.run(call, (teacher, batch)))()
    assert_close(logits, wanted, tolerance=16 * 2**-8)  # some roundings to 8 bits
    assert np.abs(logits["mlm_logits"] - wanted["mlm_logits"]).max() > 1e-4  # not in float32
    for values in logits.values():  # products that were not rounded to 8 bits
        assert np.mean(values != tf.cast(tf.cast(values, tf.bfloat16), tf.float32)) > 0.9


def test_a_bert_without_heads_keeps_its_pooler():
    trained = opened("bert_model")
    batch, _ = expected("bert_model")
    sequence = trained.backbone(batch)["text_sequence"]
    assert_close(
        {"x": trained.network.pooler(sequence[:, 0])}, {"x": stored("bert_model")["pooled"]}
    )
    assert trained.heads == {} and trained.network(batch) == {}
    assert (trained.classes, trained.vocabulary) == (None, TOKENS)


# --- what the files say ------------------------------------------------------------------------


def test_labels(changed):
    for name in ("vit", "deit_teacher"):
        assert opened(name).classes == ANIMALS
    assert opened("bert_classifier").classes == MOODS
    # Without them there are as many classes as the classifier has rows.
    vit = load(str(changed("vit", {"id2label": None})))
    assert (vit.classes, vit.network.num_classes) == (None, 3)
    # Configs of what is no classifier keep those of an earlier model.
    assert load(str(changed("bert", {"id2label": {"0": "LABEL", "1": "x"}}))).classes is None


@pytest.mark.parametrize("name", ["bert_classifier", "vit"])
def test_a_head_that_chooses_no_class_is_left_out(changed, name, capsys):
    trained = load(str(changed(name, {"problem_type": "multi_label_classification"})))
    assert "'multi_label_classification'" in capsys.readouterr().err
    assert trained.heads == {} and trained.classes is None


def test_whether_texts_are_lower_cased(changed, capsys):
    folder = changed("bert")
    assert load(str(folder)).lower_case  # as its words are, where no file says it
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text(vocabulary.read_text().replace("word7", "Word7"))
    assert not load(str(folder)).lower_case
    folder = changed("bert", tokenizer={"normalizer": {"lowercase": False}})
    assert not load(str(folder)).lower_case and capsys.readouterr().err == ""
    # Another way to cut texts is told.
    folder = changed("bert", tokenizer_config={"do_lower_case": True, "strip_accents": False})
    assert load(str(folder)).lower_case
    assert "strip_accents=False" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "crop", "mean", "std"),
    [
        ({"do_center_crop": True, "size": {"x": 256}, "crop_size": 224}, 0.875, 0.5, 0.5),
        ({"size": {"height": 224, "width": 224}, "do_normalize": False}, 1.0, 0.0, 1.0),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1] * 3, "image_std": [1] * 3}, 1, 0.5, 0.5),
        ({"do_rescale": False, "image_mean": [51] * 3, "image_std": [255] * 3}, 1, 0.2, 1),
    ],
)
def test_what_a_vit_sees_of_an_image_in_0_to_1(changed, content, crop, mean, std):
    trained = load(str(changed("vit_model", preprocessor_config=content)))
    assert trained.central_crop == crop
    seen = trained.backbone.image_mean, trained.backbone.image_std
    np.testing.assert_allclose(seen, [[mean] * 3, [std] * 3])


# --- what is taken of the weights --------------------------------------------------------------


def test_names_of_old_checkpoints(changed):
    """As the first ones have them, under a prefix of a wrapper."""
    folder = changed("bert")
    path, renamed = folder / "model.safetensors", {}
    for name, value in safetensors.numpy.load_file(path).items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        renamed["module." + name.replace("LayerNorm.bias", "LayerNorm.beta")] = value
    renamed["module.bert.embeddings.position_ids"] = np.arange(19)[None]
    safetensors.numpy.save_file(renamed, path)
    batch, wanted = expected("bert")
    assert_close(call(load(str(folder)).network, batch), wanted)


def test_heads_are_those_that_the_weights_have(changed):
    bare = {"architectures": ["BertModel"]}

    def heads(*left_out):
        return load(str(changed("bert", bare, dict.fromkeys(left_out)))).network.heads

    assert heads() == {"nsp": "bert"}
    head = ("cls.seq_relationship.weight", "cls.seq_relationship.bias")
    assert heads(*head) == {"pooler": "bert"}
    assert heads(*head, "bert.pooler.dense.weight", "bert.pooler.dense.bias") == {}


def test_a_decoder_is_tied_unless_it_differs(changed, refused):
    tensors = safetensors.numpy.load_file(FIXTURES / "bert" / "model.safetensors")
    word = tensors["bert.embeddings.word_embeddings.weight"]
    decoder, untied = "cls.predictions.decoder.weight", {"tie_word_embeddings": False}
    for config, value, tied in (({}, word, True), ({}, 2 * word, False), (untied, word, False)):
        head = load(str(changed("bert", config, {decoder: value}))).heads["mlm"]
        assert head.tied == tied
        if not tied:
            np.testing.assert_array_equal(np.transpose(head.logits.kernel), value)
    refused(changed("bert", untied), r"cls\.predictions\.decoder\.we")
    bias = np.arange(37, dtype=np.float32)
    moved = {"cls.predictions.bias": None, "cls.predictions.decoder.bias": bias}
    head = load(str(changed("bert", {}, moved))).heads["mlm"]
    np.testing.assert_array_equal(head.logits.bias, bias)

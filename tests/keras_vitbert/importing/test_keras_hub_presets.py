"""Presets of keras-hub as teachers, checked against keras-hub."""

import shutil

import keras_hub
import numpy as np
import pytest

from keras_vitbert.importing.vit_backbone import import_backbone
from keras_vitbert.pretraining.teachers import load_teacher
from keras_vitbert.trained.finding import find
from pipelines.command_line import UserError
from tests.keras_vitbert.importing.stored_models import call, expected, has_float32_products
from tests.keras_vitbert.importing.student import CLASSES, TOKENS, data


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    """Folder with presets of an image classifier, a masked-LM, and a backbone; and their models."""
    folder = tmp_path_factory.mktemp("presets")
    models = {}

    def random(model):
        generator = np.random.default_rng(0)
        model.set_weights([generator.normal(0, 0.3, w.shape) for w in model.get_weights()])
        return model

    backbone = keras_hub.models.ViTBackbone(
        image_shape=(9, 9, 3), patch_size=3, num_layers=2, num_heads=5, hidden_dim=15, mlp_dim=21
    )
    converter = keras_hub.layers.ViTImageConverter(
        image_size=(9, 9), scale=[0.01, 0.02, 0.03], offset=[-1.0, -2.0, 0.5]
    )
    classifier = keras_hub.models.ViTImageClassifier(
        backbone,
        3,
        preprocessor=keras_hub.models.ViTImageClassifierPreprocessor(converter),
        activation="softmax",
    )
    models["vit"] = random(classifier)
    words = keras_hub.models.BertBackbone(
        vocabulary_size=len(TOKENS),
        num_layers=2,
        num_heads=5,
        hidden_dim=15,
        intermediate_dim=21,
        max_sequence_length=19,
    )
    tokenizer = keras_hub.tokenizers.BertTokenizer(vocabulary=TOKENS, lowercase=True)
    preprocessor = keras_hub.models.BertMaskedLMPreprocessor(tokenizer, sequence_length=13)
    models["bert"] = random(keras_hub.models.BertMaskedLM(words, preprocessor=preprocessor))
    models["backbone"] = words
    for name, model in models.items():
        model.save_to_preset(str(folder / name))
    return folder, models


def test_an_image_classifier_of_keras_hub(presets, config, capsys):
    folder, models = presets
    teacher = load_teacher("image", str(folder / "vit"), config, data())
    images = np.random.default_rng(1).random((2, 9, 9, 3), np.float32)
    logits = teacher({"images": images}, training=False)["image_logits"].numpy()
    shown = models["vit"].preprocessor.image_converter(255 * images)
    wanted = np.log(models["vit"](shown))  # it returns probabilities
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5)
    assert "has no class names; only the number of classes was checked" in capsys.readouterr().err


def test_a_masked_lm_of_keras_hub(presets, config):
    folder, models = presets
    teacher = load_teacher("text", str(folder / "bert"), config, data())
    batch, _ = expected("bert")
    logits = call(teacher, batch)
    inputs = {name.replace("masked_", "mask_"): value for name, value in batch.items()}
    np.testing.assert_allclose(logits["mlm_logits"], models["bert"](inputs), rtol=0, atol=1e-5)
    assert set(logits) == {"mlm_logits"}


@pytest.mark.slow
def test_logits_are_float32_products_under_bfloat16(presets, config):
    folder, _ = presets
    config = config.copy_and_resolve_references()
    config.dtype = "mixed_bfloat16"
    batch, _ = expected("bert")
    logits = call(load_teacher("text", str(folder / "bert"), config, data()), batch)["mlm_logits"]
    assert has_float32_products(logits)
    images = np.random.default_rng(1).random((9, 9, 9, 3), np.float32)
    teacher = load_teacher("image", str(folder / "vit"), config, data())
    assert has_float32_products(teacher({"images": images}, training=False)["image_logits"])


def test_the_encoder_of_a_vit_of_keras_hub(presets):
    folder, models = presets
    ours = import_backbone(find(str(folder / "vit")))
    images = np.random.default_rng(1).random((2, 9, 9, 3), np.float32)
    shown = models["vit"].preprocessor.image_converter(255 * images)
    np.testing.assert_allclose(
        ours({"images": images})["image_sequence"],
        models["vit"].backbone(shown),
        rtol=0,
        atol=1e-5,
    )
    with pytest.raises(UserError, match="is a BERT, which normalises after its blocks; it cannot"):
        import_backbone(find(str(folder / "bert")))


@pytest.mark.slow
def test_presets_of_this_project(make_network, config, tmp_path):
    from keras_vitbert import hub

    network = make_network(3, image_size=9, vocabulary_size=len(TOKENS), max_sequence_length=13)
    for name, head, task in (
        (
            "image",
            network.image_head,
            hub.ViTBertImageClassifier(
                network.backbone,
                3,
                hub.ViTBertImageClassifierPreprocessor(
                    hub.ViTBertImageConverter((9, 9)), class_names=CLASSES
                ),
            ),
        ),
        (
            "text",
            network.mlm_head,
            hub.ViTBertMaskedLM(
                network.backbone, hub.ViTBertMaskedLMPreprocessor(hub.ViTBertTokenizer(TOKENS), 13)
            ),
        ),
    ):
        ours = task.head if name == "image" else task.mlm_head
        ours.set_weights(head.get_weights())
        task.save_to_preset(str(tmp_path / name))
        teacher = load_teacher(name, str(tmp_path / name), config, data())
        batch, _ = expected("vit" if name == "image" else "bert")
        logits, wanted = call(teacher, batch), call(network, batch)
        key = "image_logits" if name == "image" else "mlm_logits"
        np.testing.assert_allclose(logits[key], wanted[key], rtol=1e-5, atol=1e-5)
    assert load_teacher("image", str(tmp_path / "image"), config, data()).labels == CLASSES


def test_bad_presets(presets, refused, tmp_path):
    folder, _ = presets
    message = "is the preset of a BertMaskedLM, and holds no trained image classifier; give one"
    refused("image", folder / "bert", message)
    message = "is the preset of a ViTImageClassifier, and holds no trained masked-LM; give one"
    refused("text", folder / "vit", message)
    message = (
        "is the preset of a backbone alone, and holds no trained masked-LM; give one that does"
    )
    refused("text", folder / "backbone", message)
    copied = shutil.copytree(folder / "vit", tmp_path / "vit")
    (copied / "task.weights.h5").unlink()
    refused("image", copied, "task.weights.h5 is missing; restore it")
    weights = copied / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused("image", copied, "cannot be loaded as ImageClassifier of keras-hub")

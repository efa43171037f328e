"""Presets of keras-hub, checked against keras-hub."""

import json
import shutil

import keras_hub
import numpy as np
import pytest

from keras_vitbert import load
from tests.keras_vitbert.trained.stored_models import call, expected
from tests.keras_vitbert.trained.student import TOKENS

SCALE, OFFSET = [0.01, 0.02, 0.03], [-1.0, -2.0, 0.5]  # of a converter


def random(model):
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(0, 0.3, w.shape) for w in model.get_weights()])
    return model


def vit_backbone(**changes):
    sizes = {"patch_size": 3, "num_layers": 2, "num_heads": 5, "hidden_dim": 15, "mlp_dim": 21}
    options = {"image_shape": (9, 9, 3), **sizes, "layer_norm_epsilon": 1e-3, **changes}
    return keras_hub.models.ViTBackbone(**options)


def bert_backbone():
    return keras_hub.models.BertBackbone(
        vocabulary_size=len(TOKENS),
        num_layers=2,
        num_heads=5,
        hidden_dim=15,
        intermediate_dim=21,
        max_sequence_length=19,
    )


def tokenizer():
    return keras_hub.tokenizers.BertTokenizer(vocabulary=TOKENS, lowercase=True)


def vit():
    """Which returns probabilities."""
    converter = keras_hub.layers.ViTImageConverter(image_size=(9, 9), scale=SCALE, offset=OFFSET)
    preprocessor = keras_hub.models.ViTImageClassifierPreprocessor(converter)
    return keras_hub.models.ViTImageClassifier(
        vit_backbone(), 3, preprocessor=preprocessor, activation="softmax"
    )


def vit_with_pre_logits():
    """As Google's first ones have; without a converter it takes images in [0, 1]."""
    return keras_hub.models.ViTImageClassifier(vit_backbone(), 3, intermediate_dim=17)


def vit_without_biases():
    """Of attention, where keras-hub's leaves out that of the outputs, too."""
    return keras_hub.models.ViTImageClassifier(vit_backbone(use_mha_bias=False), 3)


def deit():
    backbone = keras_hub.models.DeiTBackbone(
        image_shape=(9, 9, 3),
        patch_size=3,
        num_layers=2,
        num_heads=5,
        hidden_dim=15,
        intermediate_dim=21,
        layer_norm_epsilon=1e-3,
    )
    converter = keras_hub.layers.DeiTImageConverter(image_size=(9, 9), scale=0.02, offset=-1.0)
    preprocessor = keras_hub.models.DeiTImageClassifierPreprocessor(converter)
    return keras_hub.models.DeiTImageClassifier(backbone, 3, preprocessor=preprocessor)


def bert():
    preprocessor = keras_hub.models.BertMaskedLMPreprocessor(tokenizer(), sequence_length=13)
    return keras_hub.models.BertMaskedLM(bert_backbone(), preprocessor=preprocessor)


def bert_classifier():
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(tokenizer(), sequence_length=13)
    return keras_hub.models.BertTextClassifier(bert_backbone(), 3, preprocessor=preprocessor)


MADE = {
    f.__name__: f
    for f in (vit, vit_with_pre_logits, vit_without_biases, deit, bert, bert_classifier)
}


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """`preset(name) -> (folder, model)` of one of `MADE`, with random weights."""
    folder, models = tmp_path_factory.mktemp("presets"), {}

    def preset(name):
        if name not in models:
            models[name] = random(MADE[name]())
            models[name].save_to_preset(str(folder / name))
        return folder / name, models[name]

    return preset


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def images():
    return np.random.default_rng(1).random((2, 9, 9, 3), np.float32)


def shown(model):
    """The images as a preset's converter shows them to its model."""
    converter = getattr(model.preprocessor, "image_converter", None)
    return images() if converter is None else converter(255 * images())


# --- what they compute -------------------------------------------------------------------------


def test_an_image_classifier(preset):
    folder, model = preset("vit")
    trained = load(str(folder))
    logits = np.asarray(trained.network({"images": images()})["image_logits"])
    wanted = np.log(model(shown(model)))  # it returns probabilities
    close(logits - np.log(np.exp(logits).sum(-1, keepdims=True)), wanted)
    assert set(trained.heads) == {"image"} and trained.classes is None
    np.testing.assert_allclose(trained.backbone.image_std, 1 / (255 * np.array(SCALE)))
    tokens = trained.backbone({"images": images()})["image_sequence"]
    close(tokens, model.backbone(shown(model)))


@pytest.mark.parametrize(
    ("name", "prefix"), [("vit_with_pre_logits", 1), ("vit_without_biases", 1), ("deit", 2)]
)
def test_other_image_classifiers(preset, name, prefix):
    folder, model = preset(name)
    trained = load(str(folder))
    close(trained.network({"images": images()})["image_logits"], model(shown(model)))
    assert trained.backbone.prefix_tokens == prefix


def test_a_masked_lm(preset):
    folder, model = preset("bert")
    trained = load(str(folder))
    batch, _ = expected("bert")
    logits = call(trained.network, batch)
    inputs = {name.replace("masked_", "mask_"): value for name, value in batch.items()}
    close(logits["mlm_logits"], model(inputs))
    assert set(logits) == {"mlm_logits"}
    assert (trained.vocabulary, trained.lower_case) == (TOKENS, True)
    # It begins with the pooler of its backbone where it is fine-tuned.
    inputs.pop("mask_positions")
    outputs = model.backbone(inputs)
    sequence = trained.backbone(batch)["text_sequence"]
    close(trained.network.pooler(sequence[:, 0]), outputs["pooled_output"])


def test_a_text_classifier(preset):
    folder, model = preset("bert_classifier")
    trained = load(str(folder))
    batch, _ = expected("bert")
    batch.pop("masked_positions")
    close(trained.network(batch), model(batch))
    assert set(trained.heads) == {"text"} and trained.vocabulary == TOKENS


def test_a_backbone_alone(preset, tmp_path, name="deit"):
    """Its images are those of ViT, in [-1, 1], where the preset has no converter."""
    _, model = preset(name)
    model.backbone.save_to_preset(str(tmp_path))
    trained = load(str(tmp_path))
    close(
        trained.backbone({"images": images()})["image_sequence"], model.backbone(2 * images() - 1)
    )
    assert trained.heads == {}
    converter = model.preprocessor.image_converter
    converter.save_to_preset(str(tmp_path))
    close(
        load(str(tmp_path)).backbone({"images": images()})["image_sequence"],
        model.backbone(shown(model)),
    )


# --- what is refused ---------------------------------------------------------------------------


def refused_preset(folder, message):
    with pytest.raises(ValueError, match=message) as error:
        load(str(folder))
    assert "\n" not in str(error.value) and str(error.value).startswith(f"{folder}: ")


def test_another_model(tmp_path):
    """By name, before anything of it is built."""
    for file in ("config", "task"):
        content = {"registered_name": "keras_hub>GPT2CausalLM", "class_name": "GPT2CausalLM"}
        (tmp_path / f"{file}.json").write_text(json.dumps({**content, "config": {}}))
        refused_preset(tmp_path, "GPT2CausalLM")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_class_token": False}, "vit_patching_and_embedding/class_token"),
        ({"image_shape": (9, 12, 3)}, "image_size"),
    ],
)
def test_variants_of_vit(tmp_path, changes, message):
    vit_backbone(**changes).save_to_preset(str(tmp_path))
    refused_preset(tmp_path, message)


def test_damaged_presets(preset, tmp_path):
    folder, _ = preset("vit")
    copied = shutil.copytree(folder, tmp_path / "vit")
    (copied / "task.weights.h5").unlink()
    refused_preset(copied, "task.weights.h5 is missing")
    weights = copied / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused_preset(copied, "cannot be read")
    (copied / "task.json").write_text("{")
    refused_preset(copied, "task.json: ")

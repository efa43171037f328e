"""Presets of keras-hub, checked against keras-hub."""

import json
import shutil

import keras_hub
import numpy as np
import pytest

from keras_vitbert import load
from tests.keras_vitbert.trained.stored_models import call, expected
from tests.keras_vitbert.trained.student import TOKENS

SCALE = [0.01, 0.02, 0.03]  # of a converter
SIZES = {"num_layers": 2, "num_heads": 5, "hidden_dim": 15}
OF_IMAGES = {**SIZES, "image_shape": (9, 9, 3), "patch_size": 3, "layer_norm_epsilon": 1e-3}


def vit_backbone(**changes):
    return keras_hub.models.ViTBackbone(**{**OF_IMAGES, "mlp_dim": 21, **changes})


def vit():
    """Which returns probabilities."""
    converter = keras_hub.layers.ViTImageConverter((9, 9), scale=SCALE, offset=[-1.0, -2.0, 0.5])
    preprocessor = keras_hub.models.ViTImageClassifierPreprocessor(converter)
    return keras_hub.models.ViTImageClassifier(
        vit_backbone(), 3, preprocessor=preprocessor, activation="softmax"
    )


def vit_with_pre_logits():
    """As Google's first ones have; without a converter it takes images in [0, 1].

    Where keras-hub's attention has no biases, its outputs have none, too.
    """
    backbone = vit_backbone(use_mha_bias=False)
    return keras_hub.models.ViTImageClassifier(backbone, 3, intermediate_dim=17)


def deit():
    backbone = keras_hub.models.DeiTBackbone(**OF_IMAGES, intermediate_dim=21)
    converter = keras_hub.layers.DeiTImageConverter((9, 9), scale=0.02, offset=-1.0)
    preprocessor = keras_hub.models.DeiTImageClassifierPreprocessor(converter)
    return keras_hub.models.DeiTImageClassifier(backbone, 3, preprocessor=preprocessor)


def of_texts(task, preprocessor, *options):
    backbone = keras_hub.models.BertBackbone(
        **SIZES, vocabulary_size=len(TOKENS), intermediate_dim=21, max_sequence_length=19
    )
    tokenizer = keras_hub.tokenizers.BertTokenizer(vocabulary=TOKENS, lowercase=True)
    return task(backbone, *options, preprocessor=preprocessor(tokenizer, sequence_length=13))


def bert():
    models = keras_hub.models
    return of_texts(models.BertMaskedLM, models.BertMaskedLMPreprocessor)


def bert_classifier():
    models = keras_hub.models
    return of_texts(models.BertTextClassifier, models.BertTextClassifierPreprocessor, 3)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """`preset(make) -> (folder, model)` of a function above, with random weights."""
    folder, models = tmp_path_factory.mktemp("presets"), {}

    def preset(make):
        path = folder / make.__name__
        if make not in models:
            models[make] = model = make()
            random = np.random.default_rng(0)
            model.set_weights([random.normal(0, 0.3, w.shape) for w in model.get_weights()])
            model.save_to_preset(str(path))
        return path, models[make]

    return preset


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


IMAGES = np.random.default_rng(1).random((2, 9, 9, 3), np.float32)


def shown(model):
    """The images as a preset's converter shows them to its model."""
    converter = getattr(model.preprocessor, "image_converter", None)
    return IMAGES if converter is None else converter(255 * IMAGES)


# --- what they compute -------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "prefix"), [(vit, 1), (vit_with_pre_logits, 1), (deit, 2)])
def test_image_classifiers(preset, make, prefix):
    folder, model = preset(make)
    trained = load(str(folder))
    logits, wanted = trained.network({"images": IMAGES})["image_logits"], model(shown(model))
    if make is vit:
        exponentials = np.exp(logits)
        logits = exponentials / exponentials.sum(-1, keepdims=True)
    close(logits, wanted)
    assert set(trained.heads) == {"image"} and trained.classes is None
    assert trained.backbone.prefix_tokens == prefix


def test_a_masked_lm(preset):
    folder, model = preset(bert)
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
    folder, model = preset(bert_classifier)
    trained = load(str(folder))
    batch, _ = expected("bert")
    batch.pop("masked_positions")
    close(trained.network(batch), model(batch))
    assert set(trained.heads) == {"text"} and trained.vocabulary == TOKENS


def test_a_backbone_alone(preset, tmp_path):
    """Its images are those of ViT, in [-1, 1], where the preset has no converter."""
    _, model = preset(deit)
    model.backbone.save_to_preset(str(tmp_path))
    trained = load(str(tmp_path))
    assert trained.heads == {}
    found = trained.backbone({"images": IMAGES})["image_sequence"]
    close(found, model.backbone(2 * IMAGES - 1))
    model.preprocessor.image_converter.save_to_preset(str(tmp_path))
    found = load(str(tmp_path)).backbone({"images": IMAGES})["image_sequence"]
    close(found, model.backbone(shown(model)))


# --- what is refused ---------------------------------------------------------------------------


def test_another_model_is_refused_before_anything_of_it_is_built(refused, tmp_path):
    content = {"registered_name": "keras_hub>GPT2CausalLM", "class_name": "GPT2CausalLM"}
    (tmp_path / "config.json").write_text(json.dumps({**content, "config": {}}))
    refused(tmp_path, "GPT2CausalLM")


def test_a_vit_without_a_class_token(refused, tmp_path):
    vit_backbone(use_class_token=False).save_to_preset(str(tmp_path))
    refused(tmp_path, "vit_patching_and_embedding/class_token")


def test_damaged_presets(refused, preset, tmp_path):
    copied = shutil.copytree(preset(vit)[0], tmp_path / "vit")
    (copied / "task.weights.h5").unlink()
    refused(copied, "task.weights.h5 is missing")
    weights = copied / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(copied, "cannot be read")
    (copied / "task.json").write_text("{")
    refused(copied, "task.json: ")

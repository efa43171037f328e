"""keras-hub's own test helpers, which check a model's interface, on our models."""

import keras
import numpy as np
import pytest

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.trained import hub
from pipelines.text.wordpiece import SPECIAL_TOKENS

test_case = pytest.importorskip("keras_hub.src.tests.test_case", reason="not in this wheel")

VOCABULARY = [*SPECIAL_TOKENS, "the", "quick", "brown", "fox", "##es", "an", "earth", "."]
BACKBONE = {
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 12,
    "image_size": 8,
    "patch_size": 4,
    "vocabulary_size": len(VOCABULARY),
    "max_sequence_length": 10,
    "dropout": 0.0,
}
TEXTS = ["The quick brown foxes.", "an earth", "the fox"]


def backbone(**changes):
    return ViTBertBackbone(**{**BACKBONE, **changes})


def tokenizer(**options):
    return hub.ViTBertTokenizer(VOCABULARY, **options)


class ConformanceTest(test_case.TestCase):
    """Each helper once; without Grain the parts that need it are skipped."""

    def setUp(self):
        super().setUp()
        keras.utils.set_random_seed(0)

    def test_backbone_of_images(self):
        self.run_backbone_test(
            ViTBertBackbone,
            {**BACKBONE, "vocabulary_size": None},
            {"images": np.random.default_rng(0).random((2, 8, 8, 3), np.float32)},
            {"image_sequence": (2, 5, 8)},
            run_quantization_check=False,
        )

    @pytest.mark.slow
    def test_image_classifier(self):
        converter = hub.ViTBertImageConverter((8, 8), central_crop=1.0)
        names = ["cat", "dog", "fox"]
        images = np.random.default_rng(0).integers(0, 256, (3, 12, 10, 3)).astype(np.uint8)
        self.run_task_test(
            hub.ViTBertImageClassifier,
            {
                "backbone": backbone(),
                "num_classes": 3,
                "preprocessor": hub.ViTBertImageClassifierPreprocessor(
                    converter, class_names=names
                ),
            },
            (images, [0, 1, 2]),
            expected_output_shape=(3, 3),
        )

    @pytest.mark.slow
    def test_masked_lm(self):
        preprocessor = hub.ViTBertMaskedLMPreprocessor(
            tokenizer(),
            10,
            mask_selection_rate=1.0,
            mask_selection_length=6,
            mask_token_rate=1.0,
            random_token_rate=0.0,
        )
        self.run_task_test(
            hub.ViTBertMaskedLM,
            {"backbone": backbone(), "preprocessor": preprocessor},
            (TEXTS,),
            expected_output_shape=(3, 6, len(VOCABULARY)),
        )

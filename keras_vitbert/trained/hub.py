"""The model as keras-hub tasks with preprocessors: the content of a preset.

| task | takes | returns |
| --- | --- | --- |
| `ViTBertImageClassifier` | images of any size, integers 0 to 255 or floats 0 to 1 | class logits |
| `ViTBertTextClassifier` | strings, or pairs of them | class logits |
| `ViTBertMaskedLM` | strings, and masks some tokens | logits of the masked tokens |

Load a task with `from_preset`, or any of them with `keras_vitbert.load`. Write it with
`save_to_preset`, and upload it with `keras_hub.upload_preset`. `import keras_vitbert.trained.hub`
registers the classes with Keras, so that `keras_hub.models.ImageClassifier.from_preset` and the
like find them.
"""

from keras_vitbert.trained.image_classifier import ViTBertImageClassifier
from keras_vitbert.trained.masked_lm import ViTBertMaskedLM
from keras_vitbert.trained.preprocessors import (
    ViTBertImageClassifierPreprocessor,
    ViTBertImageConverter,
    ViTBertMaskedLMPreprocessor,
    ViTBertTextClassifierPreprocessor,
)
from keras_vitbert.trained.text_classifier import ViTBertTextClassifier
from keras_vitbert.trained.tokenizer import ViTBertTokenizer

__all__ = [
    "ViTBertImageClassifier",
    "ViTBertImageClassifierPreprocessor",
    "ViTBertImageConverter",
    "ViTBertMaskedLM",
    "ViTBertMaskedLMPreprocessor",
    "ViTBertTextClassifier",
    "ViTBertTextClassifierPreprocessor",
    "ViTBertTokenizer",
]

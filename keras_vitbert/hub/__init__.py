"""The model as keras-hub's tasks, with preprocessors: what a preset holds.

| task | takes | gives |
| --- | --- | --- |
| `ViTBertImageClassifier` | images of any size, numbers in 0 to 255 | class logits |
| `ViTBertTextClassifier` | strings, or pairs of them | class logits |
| `ViTBertMaskedLM` | strings, some words of which it masks | logits of the masked words |

All are loaded by `from_preset`, or whatever a preset holds by `keras_vitbert.load`; written by
`save_to_preset`, and uploaded by `keras_hub.upload_preset`. Importing this package registers the
classes with Keras.
"""

from keras_vitbert.hub.image_classifier import ViTBertImageClassifier
from keras_vitbert.hub.masked_lm import ViTBertMaskedLM
from keras_vitbert.hub.preprocessors import (
    ViTBertImageClassifierPreprocessor,
    ViTBertImageConverter,
    ViTBertMaskedLMPreprocessor,
    ViTBertTextClassifierPreprocessor,
)
from keras_vitbert.hub.text_classifier import ViTBertTextClassifier
from keras_vitbert.hub.tokenizer import ViTBertTokenizer

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

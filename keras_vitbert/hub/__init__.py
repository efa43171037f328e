"""The model as tasks of keras-hub, with preprocessors: the content of a preset.

| task | takes | returns |
| --- | --- | --- |
| `ViTBertImageClassifier` | images of any size, integers 0 to 255 or floats 0 to 1 | class logits |
| `ViTBertTextClassifier` | strings, or pairs of them | class logits |
| `ViTBertMaskedLM` | strings, and masks some tokens | logits of the masked tokens |

They are loaded by `from_preset`, or by `keras_vitbert.load` whichever it is, written by
`save_to_preset`, and uploaded by `keras_hub.upload_preset`. `import keras_vitbert.hub` registers
the classes with Keras: it lets `keras_hub.models.ImageClassifier.from_preset` and its like find
them.
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

"""ViT-BERT in Keras 3: one transformer encoder for images and text.

The public names below are imported when they are first used, so that importing the package, and
with it every `--help`, does not wait for TensorFlow.
"""

import importlib

_MODULES = {
    "ViTBertBackbone": "keras_vitbert.backbone",
    "PreTrainingNetwork": "keras_vitbert.network",
    "MLPHead": "keras_vitbert.heads",
    "MaskedLMHead": "keras_vitbert.heads",
    "JointTrainer": "keras_vitbert.joint_trainer",
    "Teachers": "keras_vitbert.teachers",
    "GradientSum": "keras_vitbert.merging",
    "GradientMask": "keras_vitbert.merging",
    "RandomGradientMask": "keras_vitbert.merging",
    "load_network": "keras_vitbert.loading",
    "Classifier": "keras_vitbert.fine_tuning.classifier",
    "FineTuner": "keras_vitbert.fine_tuning.fine_tuner",
    "load_classifier": "keras_vitbert.fine_tuning.saved_classifiers",
}
__all__ = sorted(_MODULES)


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__():
    return __all__

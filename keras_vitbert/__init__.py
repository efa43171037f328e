"""ViT-BERT in Keras 3: one transformer encoder for images and text.

The public names are imported on first use, so that importing the package, and with it `--help` of
every command, does not load TensorFlow.
"""

import contextlib
import importlib
import sys
from typing import Any

from pipelines.command_line import quiet_stderr  # the package handles Ctrl-C while a command loads

__version__ = "0.1.0"

_MODULES = {
    "ViTBertBackbone": "keras_vitbert.model.backbone",
    "PreTrainingNetwork": "keras_vitbert.model.pretraining_network",
    "MLPHead": "keras_vitbert.model.heads",
    "MaskedLMHead": "keras_vitbert.model.heads",
    "JointTrainer": "keras_vitbert.training.joint_trainer",
    "Teachers": "keras_vitbert.training.distillation",
    "Merge": "keras_vitbert.merging",
    "GradientMask": "keras_vitbert.merging",
    "get_merge": "keras_vitbert.merging",
    "load": "keras_vitbert.trained.loading",
    "TrainedModel": "keras_vitbert.trained.trained_model",
    "Classifier": "keras_vitbert.model.classifier",
    "FineTuner": "keras_vitbert.training.fine_tuner",
    "experiment": "keras_vitbert.experiments.experiment",
    "open_run": "keras_vitbert.experiments.experiment",
}
__all__ = sorted(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with contextlib.nullcontext() if "tensorflow" in sys.modules else quiet_stderr():
        module = importlib.import_module(_MODULES[name])
    return getattr(module, name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

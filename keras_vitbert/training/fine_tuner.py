"""The trainer of fine-tuning: classes of images, of texts, or of both."""

import functools
from collections.abc import Mapping
from typing import Any

from keras_vitbert.merging import Merge
from keras_vitbert.model.classifier import Classifier, JointClassifier, classifiers_of
from keras_vitbert.model.tensors import Tensor, Tensors
from keras_vitbert.training.losses import cross_entropy, smoothed_cross_entropy
from keras_vitbert.training.multi_task_trainer import Head, Modality, MultiTaskTrainer


class FineTuner(MultiTaskTrainer):
    """Trains one classifier or two, for `compile` and `fit`.

    Further arguments are those of `BaseTrainer`.

    Args:
        label_smoothing: in [0, 1), the weight of the uniform distribution in the labels; of a
            `JointClassifier` by modality, `text` and `image`.
        merge: of the gradients of a `JointClassifier`.

    Batches are dicts, see `MultiTaskTrainer`, of the classifiers' inputs and `text_labels` or
    `image_labels` `(batch,)`.
    """

    def __init__(
        self,
        network: Classifier | JointClassifier,
        label_smoothing: float | Mapping[str, float] = 0.0,
        merge: Merge | None = None,
        **options: Any,
    ):
        modalities, classifiers = [], classifiers_of(network)
        for place, (name, classifier) in enumerate(classifiers.items()):
            smoothing = label_smoothing
            if isinstance(smoothing, Mapping):
                smoothing = smoothing[name]
            loss = functools.partial(_loss, smoothing)
            metrics = f"{name}_" if len(classifiers) > 1 else ""
            head = Head(name, f"{name}_labels", loss, metrics)
            call = functools.partial(_named_logits, classifier)
            modalities.append(Modality(name, place, classifier.inputs_of, call, (head,)))
        super().__init__(network, modalities, merge, **options)


def _loss(smoothing: float, labels: Tensor, logits: Tensor, teacher: Tensor | None) -> Tensor:
    """The cross-entropy of each example; there are no teachers."""
    if smoothing:
        return smoothed_cross_entropy(labels, logits, smoothing)
    return cross_entropy(labels, logits)


def _named_logits(classifier: Classifier, inputs: Tensors, training: bool) -> Tensors:
    return {f"{classifier.modality}_logits": classifier(inputs, training=training)}

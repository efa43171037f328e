"""The trainer of pre-training: masked-LM, next sentence and image classes, with distillation."""

from typing import Any

from keras_vitbert.merging import Merge
from keras_vitbert.model.pretraining_network import PreTrainingNetwork, image_inputs, text_inputs
from keras_vitbert.model.tensors import Tensor
from keras_vitbert.training.distillation import Teachers
from keras_vitbert.training.losses import distillation_loss
from keras_vitbert.training.multi_task_trainer import Head, Modality, MultiTaskTrainer


class JointTrainer(MultiTaskTrainer):
    """Pre-trains a network on images and text, for `compile`, `fit` and `evaluate`.

    Further arguments are those of `BaseTrainer`.

    Args:
        network: with one modality only, its loss is the whole loss.
        merge: used with both modalities.
        teachers: required if `distillation_ratio` is above 0.
        distillation_ratio: in [0, 1], `a` of eq. 7.
        temperature: at least 0, `T` of eq. 7.

    Batches are dicts, see `MultiTaskTrainer`: `images` `(images, H, W, 3)`, uint8 or float in
    [0, 1], `image_labels` `(images,)`; `token_ids`, `segment_ids`, `padding_mask`
    `(texts, length)`, `masked_positions`, `masked_ids`, `masked_weights` `(texts, predictions)`,
    `next_sentence_labels` `(texts,)`.

    Raises:
        ValueError: `distillation_ratio` is above 0 and there are no teachers.
    """

    def __init__(
        self,
        network: PreTrainingNetwork,
        merge: Merge,
        teachers: Teachers | None = None,
        distillation_ratio: float = 0.0,
        temperature: float = 1.0,
        **options: Any,
    ):
        if distillation_ratio > 0 and teachers is None:
            raise ValueError(f"distillation_ratio is {distillation_ratio}, but teachers is None")

        def loss(labels: Tensor, student: Tensor, teacher: Tensor | None) -> Tensor:
            ratio = 0.0 if teacher is None else distillation_ratio
            return distillation_loss(labels, student, teacher, ratio, temperature)

        mlm = Head("mlm", "masked_ids", loss, "mlm_", "masked_weights")
        nsp = Head("nsp", "next_sentence_labels", loss, "nsp_")
        image = Head("image", "image_labels", loss, "image_")
        has_images = network.backbone.image_size is not None
        has_text = network.backbone.vocabulary_size is not None
        text_pass = Modality("text", 0, text_inputs, network, (mlm, nsp))
        image_pass = Modality("image", 1, image_inputs, network, (image,))
        modalities = [text_pass] * has_text + [image_pass] * has_images
        super().__init__(network, modalities, merge, teachers, **options)
        self.has_images, self.has_text = has_images, has_text

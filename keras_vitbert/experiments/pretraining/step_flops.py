"""The floating-point operations of a step of pre-training."""

from keras_vitbert.model.flops import TRAINING, image_flops, text_flops
from keras_vitbert.training.distillation import Teacher


def step_flops(trainer, stream):
    """The operations of a training step, including those of the teachers.

    Args:
        trainer: `JointTrainer`.
        stream: `JointStream`.

    Returns:
        int.
    """
    total, teachers = 0, trainer.teachers
    for has, teacher, count in (
        (trainer.has_images, teachers.image, lambda network: _images_flops(network, stream)),
        (trainer.has_text, teachers.text, lambda network: _texts_flops(network, stream)),
    ):
        if has:
            total += TRAINING * count(trainer.network)
            if teacher is not None:
                total += count(teacher.network if isinstance(teacher, Teacher) else teacher)
    return total


def _images_flops(network, stream):
    return stream.images_per_step * image_flops(
        network.backbone, network.num_classes, network.heads["image"]
    )


def _texts_flops(network, stream):
    texts = stream.texts
    return stream.text_batch * text_flops(network.backbone, texts.length, texts.predictions)

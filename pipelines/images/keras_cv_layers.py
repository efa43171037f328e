"""KerasCV's layers that may stand in a config, as Keras serialises them: their names alone."""

from typing import Any

# KerasCV's layers that change neither labels, nor sizes, nor the batch. XLA has no kernels for the
# projective transformations, JPEG, histograms and crops of the first ones.
NOT_ON_TPU = (
    *("Equalization", "GridMask", "RandAugment", "RandomCropAndResize"),
    *("RandomJpegQuality", "RandomRotation", "RandomShear", "RandomTranslation", "RandomZoom"),
)
IMAGE_LAYERS = (
    *NOT_ON_TPU,
    *("AutoContrast", "ChannelShuffle", "Grayscale", "Posterization", "RandomApply"),
    *("RandomAugmentationPipeline", "RandomBrightness", "RandomChannelShift", "RandomChoice"),
    *("RandomColorDegeneration", "RandomColorJitter", "RandomContrast", "RandomCutout"),
    *("RandomFlip", "RandomGaussianBlur", "RandomHue", "RandomSaturation", "RandomSharpness"),
    "Solarization",
)
SAMPLERS = ("ConstantFactorSampler", "UniformFactorSampler")
SET_BY_STEP = ("name", "trainable", "dtype", "seed", "value_range", "target_size")


def class_names(value: Any) -> set[str]:
    """The classes in the serialisation of layers, also of those within others."""
    if isinstance(value, list | tuple):
        return set().union(*map(class_names, value))
    if not isinstance(value, dict):
        return set()
    own = {str(value["class_name"])} if "class_name" in value else set()
    return own.union(*(class_names(one) for name, one in value.items() if name not in SET_BY_STEP))


def not_for_xla(layers: tuple[dict, ...]) -> str:
    """The image layers, also those within others, that XLA cannot compile."""
    return ", ".join(sorted(class_names(layers).intersection(NOT_ON_TPU)))

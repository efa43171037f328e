"""KerasCV's augmentation layers as a config names them: `GridMask`, `RandomCutout(0.3, 0.3)`.

A text is a name, or a call with numbers, strings and tuples. The layers that choose among others
take them in the same notation: `RandomApply(GridMask, rate=0.3)`,
`RandomChoice([RandomHue(0.2), Grayscale])`.
"""

import ast
import dataclasses
from typing import Any

from pipelines.command_line import meant

# The layers, and arguments for those that KerasCV has no defaults for. `value_range` is given
# wherever a layer has it.
LAYERS: dict[str, dict[str, Any]] = {
    "AugMix": {},
    "AutoContrast": {},
    "ChannelShuffle": {},
    "Equalization": {},
    "Grayscale": {"output_channels": 3},
    "GridMask": {},
    "Posterization": {"bits": 4},
    "RandAugment": {},
    "RandomApply": {},
    "RandomAugmentationPipeline": {"augmentations_per_image": 1},
    "RandomBrightness": {"factor": 0.2},
    "RandomChannelShift": {"factor": 0.2},
    "RandomChoice": {},
    "RandomColorDegeneration": {"factor": 0.5},
    "RandomColorJitter": {
        "brightness_factor": 0.2,
        "contrast_factor": 0.2,
        "saturation_factor": (0.4, 0.6),
        "hue_factor": 0.1,
    },
    "RandomContrast": {"factor": 0.2},
    "RandomCropAndResize": {
        "crop_area_factor": (0.8, 1.0),
        "aspect_ratio_factor": (0.75, 1.33),
    },
    "RandomCutout": {"height_factor": 0.3, "width_factor": 0.3},
    "RandomFlip": {},
    "RandomGaussianBlur": {"kernel_size": 3, "factor": (0.0, 1.0)},
    "RandomHue": {"factor": 0.1},
    "RandomJpegQuality": {"factor": (60, 100)},
    "RandomRotation": {"factor": 0.05},
    "RandomSaturation": {"factor": (0.4, 0.6)},
    "RandomSharpness": {"factor": 0.5},
    "RandomShear": {"x_factor": 0.1, "y_factor": 0.1},
    "RandomTranslation": {"height_factor": 0.1, "width_factor": 0.1},
    "RandomZoom": {"height_factor": 0.1},
    "Solarization": {"threshold_factor": (128, 255)},
}
# XLA has no kernels for projective transformations, JPEG, histograms, crops and gamma variates.
NOT_ON_TPU = frozenset(
    (
        *("AugMix", "Equalization", "GridMask", "RandAugment", "RandomCropAndResize"),
        *("RandomJpegQuality", "RandomRotation", "RandomShear", "RandomTranslation", "RandomZoom"),
    )
)
# Arguments that a config may not give: a layer's source of random numbers, and how it computes.
OWN_ARGUMENTS = (
    *("seed", "dtype", "name", "value_range", "target_size", "bounding_box_format"),
    *("auto_vectorize", "batchwise"),
)


@dataclasses.dataclass(frozen=True)
class LayerCall:
    """A layer and its arguments.

    Attributes:
        name: str, of `LAYERS`.
        positional: tuple of numbers, strings, tuples, `LayerCall` and lists of these.
        named: dict of str to the same.
    """

    name: str
    positional: tuple[Any, ...]
    named: dict[str, Any]

    def names(self):
        """The names of this layer and of those in its arguments: set of str."""
        inner = [*self.positional, *self.named.values()]
        inner += [one for value in inner if isinstance(value, list) for one in value]
        calls = [value for value in inner if isinstance(value, LayerCall)]
        return {self.name}.union(*(call.names() for call in calls))


def parse(text: str) -> LayerCall:
    """Reads a layer in the notation of a config.

    Raises:
        ValueError: says what is wrong.
    """
    try:
        found = _value(ast.parse(text.strip(), mode="eval").body)
        if not isinstance(found, LayerCall):
            raise ValueError("write it as in RandomCutout(0.3, 0.3)")
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r:.200} is not a layer: {error}") from error
    return found


def _value(node):
    """A layer, a list, or another argument."""
    if isinstance(node, ast.Name):
        return _call(node.id, [], [])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _call(node.func.id, node.args, node.keywords)
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    return ast.literal_eval(node)


def _call(name, arguments, keywords):
    if name not in LAYERS:
        raise ValueError(
            f"KerasCV has no layer {name} that changes neither labels nor sizes"
            f"{meant(name, LAYERS)}"
        )
    for keyword in keywords:
        if keyword.arg is None or keyword.arg in OWN_ARGUMENTS:
            raise ValueError(f"{ast.unparse(keyword)!r} cannot be set here")
    return LayerCall(
        name,
        tuple(_value(argument) for argument in arguments),
        {keyword.arg: _value(keyword.value) for keyword in keywords},
    )


def not_for_xla(texts):
    """The layers that XLA cannot compile, including those within others: sorted list of str.

    Args:
        texts: sequence of str, valid ones.
    """
    return sorted(set().union(*(parse(text).names() for text in texts)) & NOT_ON_TPU)

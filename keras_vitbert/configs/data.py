"""The `data` section of pre-training, and the views of images that fine-tuning shares."""

import dataclasses
import json

from keras_vitbert.configs.sections import Section, choice, ranged
from pipelines.command_line import meant
from pipelines.images.keras_cv_layers import IMAGE_LAYERS, SAMPLERS, class_names
from pipelines.text.casing import CASES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Views(Section):
    """How images are cropped, augmented and mixed."""

    # The fractions of the area that a crop keeps; not in the paper. Empty: chosen for own images.
    crop_area: tuple[float, ...] = (0.08, 1.0)
    flip: bool = True  # not in the paper
    central_crop: float = ranged(0.875, "(0, 1]")  # of each side, in validation; not in the paper
    randaugment: tuple[int, int] = (0, 9)  # operations per image, magnitude; not in the paper
    mixup: float = ranged(0.0, "[0, inf)")  # alpha; not in the paper
    cutmix: float = ranged(0.0, "[0, inf)")  # alpha; not in the paper
    # Of KerasCV, as Keras serialises them: {"class_name": "RandomHue", "config": {"factor": 0.2}}.
    augmentations: tuple[dict, ...] = ()  # not in the paper

    def __post_init__(self) -> None:
        super().__post_init__()
        area = self.crop_area
        fits = not area or len(area) == 2 and 0 < area[0] <= area[1] <= 1
        self.require(fits, "crop_area", "two numbers with 0 < first <= second <= 1")
        operations, magnitude = self.randaugment
        fits = operations >= 0 and 0 <= magnitude <= 30
        self.require(fits, "randaugment", "operations from 0 and a magnitude from 0 to 30")
        outer = {str(layer.get("class_name")) for layer in self.augmentations}
        for name in sorted(
            (outer | class_names(self.augmentations)).difference(IMAGE_LAYERS, SAMPLERS)
        ):
            raise ValueError(
                f"augmentations: KerasCV has no layer {name} that keeps labels, sizes and the batch"
                f"{meant(name, IMAGE_LAYERS)}"
            )
        try:  # as `config.json` will give them back
            augmentations = tuple(json.loads(json.dumps(self.augmentations)))
        except TypeError as error:
            raise ValueError(f"augmentations: {error}") from error
        object.__setattr__(self, "augmentations", augmentations)

    @property
    def in_pairs(self) -> bool:
        """Whether images are mixed in pairs."""
        return bool(self.mixup or self.cutmix)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Images(Views):
    """Records of labelled images."""

    train: str = ""  # pattern of files
    validation: str = ""
    label_offset: int = 1  # the label of the first class

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(bool(self.crop_area), "crop_area", "two numbers")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Masking(Section):
    """Masks for masked-LM, of texts that were stored without them."""

    ratio: float = ranged(0.15, "(0, 1)")
    max_predictions: int = ranged(76, "[1, inf)")  # of a text; not in the paper
    whole_word: bool = False  # not in the paper


@dataclasses.dataclass(frozen=True, kw_only=True)
class Texts(Section):
    """Records of BERT's examples."""

    train: str = ""  # pattern of files
    validation: str = ""
    masking: Masking = Masking()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data(Section):
    """What pre-training reads."""

    # Or sample: the sample data, prepared on demand
    source: str = choice("files", ("sample", "files"))
    images: Images = Images()
    text: Texts = Texts()
    packing: bool = False  # several texts per row, so that fewer tokens are padding
    vocabulary: str = ""  # file
    case: str = choice("auto", CASES)  # as the texts were made; or lower, cased

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from pipelines.images import randaugment
from tests.pipelines.image_fixtures import textured

SIZE = 40


def affine(image, x, y):
    """Pillow's transform: coefficients of the input's place, from centres of the output's."""
    return image.transform(image.size, Image.Transform.AFFINE, (*x, *y), Image.Resampling.NEAREST)


def references(magnitude, sign):
    """Pillow's operations of the paper: dict of name to a function of a Pillow image."""
    part = magnitude / 30
    shear, shift, factor = (0.3 * part * sign, int(150 / 331 * SIZE * part), 1 + 0.9 * part * sign)
    shift *= sign
    return {
        "identity": lambda image: image,
        "shear_x": lambda image: affine(image, (1, shear, 0), (0, 1, 0)),
        "shear_y": lambda image: affine(image, (1, 0, 0), (shear, 1, 0)),
        "translate_x": lambda image: affine(image, (1, 0, -shift), (0, 1, 0)),
        "translate_y": lambda image: affine(image, (1, 0, 0), (0, 1, -shift)),
        "rotate": lambda image: image.rotate(30 * part * sign),
        "brightness": lambda image: ImageEnhance.Brightness(image).enhance(factor),
        "color": lambda image: ImageEnhance.Color(image).enhance(factor),
        "contrast": lambda image: ImageEnhance.Contrast(image).enhance(factor),
        "sharpness": lambda image: ImageEnhance.Sharpness(image).enhance(factor),
        "posterize": lambda image: ImageOps.posterize(image, 8 - round(part * 4)),
        "solarize": lambda image: ImageOps.solarize(image, 255 * (1 - part)),
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
    }


GEOMETRIC = {"shear_x", "shear_y", "translate_x", "translate_y", "rotate"}


BLENDS = {"brightness", "color", "contrast", "sharpness", "autocontrast"}


@pytest.mark.parametrize("magnitude", [9, 30])
def test_every_operation_is_pillows(magnitude):
    operations = randaugment.operations(SIZE, magnitude)
    assert list(operations) == list(references(magnitude, 1))
    two_values = np.where(textured() > 130, 200, 60).astype(np.uint8)
    dim = (textured(2) // 4 + 90).astype(np.uint8)
    for side, sign in enumerate((1, -1)):
        for name, reference in references(magnitude, sign).items():
            for pixels in (textured(), dim, two_values, np.full_like(dim, 77)):
                found = operations[name][side](tf.constant(pixels)).numpy()
                expected = np.asarray(reference(Image.fromarray(pixels)))
                difference = np.abs(found.astype(int) - expected)
                if name in GEOMETRIC:  # Pillow's fixed-point places differ in a few ties
                    assert (difference > 0).mean() < 0.004, name
                else:
                    assert difference.max() <= (name in BLENDS), (name, sign)
                    assert (difference > 0).mean() < 0.06, (name, sign)

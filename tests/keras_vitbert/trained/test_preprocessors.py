"""The image preprocessing of presets."""

import numpy as np

from keras_vitbert.trained import hub


def test_images_of_several_sizes_are_converted():
    converter = hub.ViTBertImageConverter((4, 4), central_crop=1.0)
    found = converter([np.full((8, 6, 3), 255), np.zeros((5, 5, 3))])
    np.testing.assert_array_equal(found, np.stack([np.ones((4, 4, 3)), np.zeros((4, 4, 3))]))

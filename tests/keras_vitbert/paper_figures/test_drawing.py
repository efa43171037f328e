"""Figures for TensorBoard."""

import numpy as np

from keras_vitbert.paper_figures.drawing import qualitative_picture


def test_a_picture_for_tensorboard(older_run):
    picture = qualitative_picture(
        older_run.network, older_run.data, "run", examples=2, dots_per_inch=50
    )
    assert picture.dtype == np.uint8 and picture.shape[1:] == (345, 3)
    assert len(np.unique(picture)) > 20

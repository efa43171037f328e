"""Encoder sizes by name."""

import pytest

from keras_vitbert.configs.sizes import encoder_size


def test_unknown_size_is_refused():
    with pytest.raises(ValueError, match="'huge'.*sample, tiny, small, base, large"):
        encoder_size("huge")

import itertools

import tensorflow as tf

from pipelines.images import image_decoding
from pipelines.images.image_decoding import derived_key

NAMES = {"WINDOW": 1, "MIRROR": 2, "OPERATIONS": 101, "MIX_SWITCH": 102}
NAMES |= {"FIRST_GAMMA": 103, "SECOND_GAMMA": 104, "BOX_CENTER": 105}


def test_keys_stay_what_they_are():
    """The images of a seed depend on them: calculated by Python's integers."""
    for name, seed, number in itertools.product(NAMES.values(), (0, 3, 2**40), (0, 1, 10**9)):
        expected = [seed ^ (name * 0x9E3779B97F4A7C15 % 2**63), number]
        found = derived_key(tf.constant([seed, number], tf.int64), name)
        assert found.numpy().tolist() == expected
    assert {name: getattr(image_decoding, name) for name in NAMES} == NAMES

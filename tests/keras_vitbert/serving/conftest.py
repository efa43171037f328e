"""Fixtures of the tests of serving."""

import pytest


@pytest.fixture(scope="session")
def read_back(exported):
    """The exported model as TensorFlow loads it."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  for the operations in the graph

    return tf.saved_model.load(str(exported / "vitbert" / "1"))

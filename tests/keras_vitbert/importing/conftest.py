"""Fixtures of the tests of imported models."""

import functools
import shutil

import pytest

from tests.keras_vitbert.importing.stored_models import FIXTURES
from tests.keras_vitbert.importing.student import assert_refused, student_config


@pytest.fixture
def config():
    """The student's config, to be changed."""
    return student_config()


@pytest.fixture
def copy(tmp_path):
    """`copy(name) -> folder` of a stored model, to be damaged."""
    return lambda name: shutil.copytree(FIXTURES / name, tmp_path / name)


@pytest.fixture
def refused(config):
    """`refused(kind, path, message, **data)`: the teacher is refused."""
    return functools.partial(assert_refused, config)

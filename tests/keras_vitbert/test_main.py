"""`python -m keras_vitbert`: the list of commands."""

import importlib.util

from keras_vitbert import __main__ as listing


def test_every_command_is_listed_with_a_line():
    found = listing.list_commands()
    assert {"keras_vitbert.pretrain", "keras_vitbert.aot", "pipelines.vocabulary"} < set(found)
    assert "keras_vitbert.__main__" not in found
    assert not {"pipelines.files", "pipelines.command_line", "tpu.strategy"} & set(found)
    for name, line in found.items():
        assert importlib.util.find_spec(name) and line[0].isupper() and "\n" not in line

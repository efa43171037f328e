"""One reading of the command line: flags, and values of a config."""

import json

import pytest
from ml_collections import config_dict

from keras_vitbert.configs import sample
from keras_vitbert.configs.overrides import flatten
from tests.keras_vitbert.configs.command_lines import parsed_config


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--config.steps=800", 800),
        ("--config.optimizer.learning_rate=3e-4", 3e-4),
        ("--config.optimizer.learning_rate=1", 1.0),
        ("--config.data.images.flip=true", True),
        ("--config.data.images.flip=False", False),
        ("--config.data.images.crop_area=(0.25, 1.0)", (0.25, 1.0)),
        ("--config.data.text.train=a b/*", "a b/*"),
        ("--config.data.vocabulary=12", "12"),
        ("-config.merge.name=sum", "sum"),
        ("--config.model.attention_dropout -1", -1.0),
    ],
)
def test_overrides_keep_the_types(argument, value):
    words = argument.split() if "=" not in argument else [argument]
    config = parsed_config("--config=sample", *words, "--variant=bert")
    key = words[0].lstrip("-").partition("=")[0].removeprefix("config.")
    section, _, last = key.rpartition(".")
    found = config
    for part in filter(None, section.split(".")):
        found = found[part]
    assert found[last] == value and type(found[last]) is type(value)
    # Nothing else has changed.
    found[last] = flatten(sample.get_config())[key]
    assert flatten(config) == flatten(sample.get_config())


def test_flatten():
    config = config_dict.ConfigDict({"a": 1, "b": {"c": (1, 2), "d": {"e": "x"}}})
    assert flatten(config) == {"a": 1, "b.c": [1, 2], "b.d.e": "x"}
    again = json.loads(json.dumps(config.to_dict()))
    assert flatten(again) == flatten(config)

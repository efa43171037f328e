"""Sections of configs: types, dotted fields, and their way to JSON and back."""

import json

import pytest

from keras_vitbert.configs import fine_tuning, sample
from keras_vitbert.configs.sections import fields_of, flatten, kind_of, parsed

SAMPLE = sample.get_config()
HUE = {"class_name": "RandomHue", "config": {"factor": 0.1}}


@pytest.mark.parametrize(
    "config",
    [SAMPLE, fine_tuning.get_config("images", "images"), fine_tuning.get_config("texts", "text")],
    ids=lambda config: type(config).__name__,
)
def test_json_gives_the_same_config(config):
    content = json.loads(json.dumps(config.to_dict()))
    again = type(config).from_dict(content)
    assert again == config and flatten(again) == flatten(content)
    assert sorted(flatten(config)) == sorted(fields_of(type(config)))


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        (lambda content: content["model"].pop("norm"), "model.norm"),
        (lambda content: content["data"]["images"].update(flip=1), "data.images.flip"),
        (lambda content: content["optimizer"].update(beta_1=2.0), "optimizer.beta_1"),
        (lambda content: content.update(sed=1), "sed"),
    ],
)
def test_json_of_another_config_is_refused(change, culprit):
    content = SAMPLE.to_dict()
    change(content)
    with pytest.raises(ValueError, match=f"^{culprit}[:=]"):
        type(SAMPLE).from_dict(content)


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("steps", "800", 800),
        ("optimizer.learning_rate", "3e-4", 3e-4),
        ("model.attention_dropout", "-1", -1.0),
        ("data.images.flip", "true", True),
        ("data.images.flip", "0", False),
        ("data.images.crop_area", "0.25,1", (0.25, 1.0)),
        ("data.images.randaugment", "[2, 9]", (2, 9)),
        ("data.images.augmentations", f"[{HUE}]", (HUE,)),
        ("data.images.augmentations", str(HUE), (HUE,)),
        ("data.vocabulary", "12", "12"),
    ],
)
def test_texts_become_values_of_the_type(field, text, value):
    found = parsed(field, text, kind_of(type(SAMPLE), field))
    assert found == value and type(found) is type(value)
    changed = SAMPLE.with_values({field: found})
    assert changed.value(field) == value
    # Nothing else has changed, and the config itself is as it was.
    assert changed.with_values({field: SAMPLE.value(field)}) == SAMPLE == sample.get_config()


@pytest.mark.parametrize(
    ("field", "text"),
    [
        *(("steps", "8.0"), ("steps", "True"), ("optimizer.learning_rate", "inf")),
        *(("remat", "maybe"), ("data.images.crop_area", "a,b")),
        *(("data.images.randaugment", "2,9,1"), ("data.images.augmentations", "GridMask")),
        *(("merge", "mask"), ("steps.few", "1"), ("step", "1")),
    ],
)
def test_other_texts_are_refused(field, text):
    with pytest.raises(ValueError, match=f"^{field}[:=]"):
        parsed(field, text, kind_of(type(SAMPLE), field))

"""The layers of KerasCV that a config names."""

import json

import pytest

from keras_vitbert.configs.data import Views, class_names

APPLY = {"class_name": "RandomApply", "config": {"layer": {"class_name": "RandomHue"}}}


def test_layers_come_back_from_json():
    cutout = {"class_name": "RandomCutout", "config": {"height_factor": (0, 0.5)}}
    views = Views(augmentations=(cutout, APPLY))
    assert Views.from_dict(json.loads(json.dumps(views.to_dict()))) == views
    assert class_names(views.augmentations) == {"RandomCutout", "RandomApply", "RandomHue"}


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("Lambda", {"class_name": "RandomChoice", "config": {"x": [{"class_name": "Lambda"}]}}),
        ("GridMask", {"class_name": "GridMsk"}),
        ("JSON", {"class_name": "GridMask", "config": {"ratio_factor": {0.1}}}),
    ],
)
def test_classes_of_others_and_other_values_are_refused(name, layer):
    with pytest.raises(ValueError, match=f"^augmentations: .*{name}"):
        Views(augmentations=(layer,))

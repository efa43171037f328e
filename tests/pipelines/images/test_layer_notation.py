"""The notation of KerasCV's layers in a config."""

import pytest

from pipelines.images.layer_notation import LayerCall, not_for_xla, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GridMask", LayerCall("GridMask", (), {})),
        ("GridMask()", LayerCall("GridMask", (), {})),
        (" RandomCutout(0.3, width_factor=(0, 0.5))", ("RandomCutout", (0.3,), (0, 0.5))),
        ("RandomFlip('vertical', rate=-1)", LayerCall("RandomFlip", ("vertical",), {"rate": -1})),
        (
            "RandomApply(RandomHue(0.2), rate=0.5)",
            LayerCall("RandomApply", (LayerCall("RandomHue", (0.2,), {}),), {"rate": 0.5}),
        ),
        (
            "RandomChoice([Grayscale, AutoContrast])",
            LayerCall(
                "RandomChoice",
                ([LayerCall("Grayscale", (), {}), LayerCall("AutoContrast", (), {})],),
                {},
            ),
        ),
    ],
)
def test_what_a_text_says(text, expected):
    if isinstance(expected, tuple):
        expected = LayerCall(expected[0], expected[1], {"width_factor": expected[2]})
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a layer"),
        ("0.3", "'0.3' is not a layer"),
        ("GridMask(", "is not a layer"),
        ("[GridMask]", "is not a layer"),
        ("layers.GridMask", "'layers.GridMask' is not a layer"),
        ("GridMsk", "KerasCV has no layer GridMsk .*mean GridMask"),
        ("RandomApply(GridMsk)", "no layer GridMsk"),
        ("MixUp", "no layer MixUp"),
        ("Resizing(8, 8)", "no layer Resizing"),
        ("RandomHue(seed=3)", "'seed=3' cannot be set here"),
        ("RandomHue(**{'factor': 1})", "cannot be set here"),
        ("RandomHue(open('x'))", "KerasCV has no layer open"),
        ("RandomHue(1 if 2 else 3)", "is not a layer"),
        ("(" * 2000, "is not a layer"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_layers_that_xla_cannot_compile_are_named_wherever_they_stand():
    assert not_for_xla(["RandomHue", "RandomApply(RandomCutout)"]) == []
    texts = ["RandomHue", "RandomChoice([Grayscale, RandomApply(RandomZoom)])", "GridMask"]
    assert not_for_xla(texts) == ["GridMask", "RandomZoom"]

"""What is left to the devices: the dtype, the steps of an execution, and XLA."""

import pytest

from keras_vitbert.configs.devices import (
    dtype_for_devices,
    jit_for_devices,
    largest_execution,
    most_steps_an_execution,
    unfit_layers,
)

AMPERE, VOLTA, UNKNOWN = (8, 0), (7, 0), (0, 0)


@pytest.mark.parametrize(
    ("on_tpu", "gpus", "dtype"),
    [
        (True, (), "mixed_bfloat16"),
        (False, (), "float32"),
        (False, (AMPERE,), "mixed_bfloat16"),
        (False, ((9, 0), AMPERE), "mixed_bfloat16"),
        (False, ((10, 0),), "mixed_bfloat16"),
        (False, ((7, 5),), "float32"),
        (False, (AMPERE, VOLTA), "float32"),
        (False, (UNKNOWN,), "float32"),
    ],
)
def test_the_dtype_that_is_left_to_the_devices(on_tpu, gpus, dtype):
    assert dtype_for_devices("auto", on_tpu, gpus) == dtype
    for given in ("float32", "mixed_bfloat16"):
        assert dtype_for_devices(given, on_tpu, gpus) == given


def test_the_longest_execution_that_divides_all():
    assert [most_steps_an_execution(*on) for on in ((True,), (False, (VOLTA,)), (False,))] == [
        *(100, 10, 1)
    ]
    for most in (1, 7, 10, 100):
        for ends in ((400, 20, 100), (70,), (9, 0, 27), (13, 26)):
            wanted = [n for n in range(1, most + 1) if all(end % n == 0 for end in ends)]
            assert largest_execution(most, ends) == wanted[-1]


@pytest.mark.parametrize(
    ("given", "devices", "found"),
    [
        ("auto", {"gpus": (AMPERE,)}, "on"),
        ("auto", {"gpus": (UNKNOWN,)}, "on"),
        ("auto", {"gpus": (AMPERE, AMPERE), "shared": True}, "off"),
        ("auto", {"gpus": (AMPERE,), "shared": True}, "off"),  # one of several machines
        ("auto", {"gpus": (AMPERE,), "unfit": "no"}, "off"),
        ("auto", {}, "off"),
        ("on", {}, "on"),
        ("off", {"gpus": (AMPERE,)}, "off"),
        # A TPU's strategy compiles by itself.
        *[(given, {"on_tpu": True, "shared": True}, "off") for given in ("auto", "on", "off")],
    ],
)
def test_what_xla_compiles(given, devices, found):
    assert jit_for_devices(given, **{"on_tpu": False, **devices}) == found


@pytest.mark.parametrize(
    ("devices", "why"),
    [
        ({"shared": True}, "a step that several devices share"),
        ({"gpus": (AMPERE, AMPERE), "shared": True}, "a step that several devices share"),
        ({"unfit": unfit_layers(["GridMask", "RandomHue"], "layers")}, "GridMask (--config.layers"),
    ],
)
def test_what_xla_cannot_compile_is_refused(devices, why):
    with pytest.raises(ValueError) as caught:
        jit_for_devices("on", False, **devices)
    assert str(caught.value).startswith("--config.jit_compile=on: ")
    assert why in str(caught.value) and str(caught.value).endswith("; leave it out")
    assert jit_for_devices("off", False, **devices) == "off"


def test_layers_that_xla_compiles():
    assert unfit_layers([], "layers") == unfit_layers(["RandomHue(0.1)"], "layers") == ""

"""What is left to the devices: the dtype, XLA, and how a batch divides."""

import pytest

from keras_vitbert.configs.devices import Devices, batch_unit, require_shares

AMPERE, VOLTA = (8, 0), (7, 0)


@pytest.mark.parametrize(
    ("on_tpu", "gpus", "dtype"),
    [
        (True, (), "mixed_bfloat16"),
        (False, (), "float32"),
        (False, (AMPERE,), "mixed_bfloat16"),
        (False, (AMPERE, VOLTA), "float32"),
    ],
)
def test_the_dtype_that_is_left_to_the_devices(on_tpu, gpus, dtype):
    devices = Devices(on_tpu, gpus)
    assert devices.dtype("auto") == dtype
    for given in ("float32", "mixed_bfloat16"):
        assert devices.dtype(given) == given


@pytest.mark.parametrize(
    ("given", "devices", "more", "found"),
    [
        ("auto", {"gpus": (AMPERE,)}, {}, "on"),
        ("auto", {"gpus": (AMPERE,), "shared": True}, {}, "off"),  # one of several machines
        ("auto", {"gpus": (AMPERE,)}, {"layers": ({"class_name": "GridMask"},)}, "off"),
        ("auto", {}, {}, "off"),
        ("on", {}, {}, "on"),
        ("off", {"gpus": (AMPERE,)}, {}, "off"),
        ("auto", {"on_jax": True}, {}, "on"),
        ("on", {"on_tpu": True, "shared": True}, {}, "off"),  # a TPU's strategy compiles by itself
    ],
)
def test_what_xla_compiles(given, devices, more, found):
    assert Devices(**devices).jit_compile(given, **more) == found


@pytest.mark.parametrize("in_pairs", [False, True])
@pytest.mark.parametrize(("replicas", "accumulation"), [(1, 1), (2, 3), (3, 2)])
def test_batches_that_replicas_share(replicas, accumulation, in_pairs):
    for batch in range(1, 60):
        each, rest = divmod(batch, replicas)
        part, over = divmod(each, accumulation)
        fits = not rest and not over and not (in_pairs and each % 2)
        assert fits == (batch % batch_unit(replicas, accumulation, in_pairs) == 0)
        if not fits:
            with pytest.raises(ValueError, match=f"^batch={batch}: "):
                require_shares("batch", batch, replicas, accumulation, in_pairs)

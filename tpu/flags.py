"""The flags by which a command is told its devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines import flags
from tpu import rendezvous

if TYPE_CHECKING:
    from absl.flags import FlagValues

BACKEND = (
    *("backend", None),
    "tensorflow or jax (default: KERAS_BACKEND if it is set, else tensorflow)",
)


def define_flags(values: FlagValues) -> None:
    """Defines `--backend`, `--tpu`, `--tpu_address` and `--wait_seconds` in absl's `FlagValues`."""
    tpu = (
        "a TPU to train on: its accelerator type (v3-128), grpc://HOST:8470 (several "
        "comma-separated), local, or its name (default: GPUs or the CPU; on many machines by "
        "TF_CONFIG)"
    )
    tpu_address = (
        "the address of the TPU: grpc://HOST:8470 of all its hosts, comma-separated (default: on a "
        "TPU VM, that TPU)"
    )
    wait = "how long to wait for the other machines of TF_CONFIG to start"
    flags.define_flags(
        BACKEND,
        ("tpu", None, tpu),
        ("tpu_address", "", tpu_address),
        ("wait_seconds", float(rendezvous.SECONDS), wait, 0.0),
        values=values,
    )

"""The devices of a run: a strategy, the processes that share it, and what they can do."""

import dataclasses
from typing import Any

from keras_vitbert.configs.devices import Devices
from keras_vitbert.runs.workers import Workers
from pipelines.command_line import quiet_loading
from tpu.devices import enable_determinism, gpus, is_shared, peak_flops
from tpu.peers import SECONDS
from tpu.strategy import get_strategy, wait_for_peers


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where a run computes."""

    strategy: Any  # see `tpu.strategy.get_strategy`
    workers: Workers
    devices: Devices
    tpu: str | None = None  # the name that was asked for

    @property
    def replicas(self) -> int:
        """How many devices share a batch."""
        return self.devices.replicas

    def peak_flops(self, dtype: str) -> float | None:
        """The most operations a second in a dtype policy; None where that is not known."""
        return peak_flops(self.strategy, dtype, self.tpu)


def open_machine(
    tpu: str | None = None,
    tpu_address: str | None = None,
    sharding: str = "replicated",
    *,
    deterministic: bool = False,
    wait_seconds: float = SECONDS,
) -> Machine:
    """Connects to the devices.

    Args:
        tpu, tpu_address: see `tpu.strategy.get_strategy`.
        sharding: of the config.
        deterministic: whether operations give the same bits each time, slower on GPUs.
        wait_seconds: how long to wait for the other machines of `TF_CONFIG` to start.

    Raises:
        ValueError: there are no such devices.
    """
    import keras

    if tpu is None:
        wait_for_peers(wait_seconds)
    with quiet_loading():
        strategy = get_strategy(tpu, tpu_address, sharding)
        if deterministic:
            enable_determinism()
    devices = Devices(
        on_tpu=tpu is not None,
        gpus=tuple(capability for _, capability in gpus()),
        replicas=strategy.num_replicas_in_sync,
        shared=is_shared(strategy),
        on_jax=keras.backend.backend() == "jax",
    )
    return Machine(strategy, Workers(strategy), devices, tpu)

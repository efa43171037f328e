"""The devices of a run, and the processes that share it.

Several processes, one per machine, run the same command and hold the same weights. The first one,
the chief, writes the run's folder; the others read it, so it must be on a shared file system.
Whatever happens between steps must happen in all processes or in none: they agree through
`Workers.any_asks`.
"""

import atexit
import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_vitbert.configs.devices import Devices
from pipelines.command_line import (
    EXIT_STOPPED,
    Stopped,
    hear_signals_again,
    quiet_loading,
    settle_tensorflow,
)
from tpu.devices import enable_determinism, gpus, is_shared, peak_flops
from tpu.rendezvous import SECONDS
from tpu.strategy import get_strategy, wait_for_peers

Strategy = Any  # `tf.distribute.Strategy` or `tpu.jax_strategy.JaxStrategy`

_LOSSES = tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError
_LOSSES += (tf.errors.DeadlineExceededError,)  # heartbeats that did not come
# What JAX's messages then begin with; between CPUs, Gloo sends the sums. They say it in their text
# alone: a step that takes too much memory raises the same types.
_JAX_LOSSES = ("UNAVAILABLE", "ABORTED", "INTERNAL", "CANCELLED", "DEADLINE_EXCEEDED")
_JAX_LOSSES += ("UNKNOWN: Gloo",)


class Workers:
    """The processes of a strategy: one with TensorFlow, or those of `MultiWorkerMirroredStrategy`.

    `count` is their number, `index` that of this process.
    """

    def __init__(self, strategy: Strategy):
        self.count, self.index = 1, 0
        if not isinstance(strategy, tf.distribute.Strategy):  # JAX
            self.count, self.index = strategy.processes, strategy.process
            self._total: Callable[[float], Any] = strategy.sum_over_processes
        elif isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            resolver = strategy.cluster_resolver
            cluster = resolver.cluster_spec()
            # "chief" comes before "worker"
            tasks = [(job, n) for job in sorted(cluster.jobs) for n in cluster.task_indices(job)]
            self.count = len(tasks)
            self.index = tasks.index((resolver.task_type, resolver.task_id))
            self._total = _total_of(strategy)
        if self.count > 1:
            hear_signals_again()

    @property
    def is_chief(self) -> bool:
        """Whether this process writes."""
        return self.index == 0

    def any_asks(self, asks: bool) -> bool:
        """Whether any process asks for something; all of them get the same answer."""
        return asks if self.count == 1 else bool(self._total(float(asks)) > 0)

    def wait(self) -> None:
        """Waits until all processes have called this."""
        self.any_asks(False)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """A context that turns the loss of another process into `Stopped`."""
        try:
            yield
        except Exception as error:
            of_jax = isinstance(error, RuntimeError | ValueError)
            of_jax = of_jax and str(error).startswith(_JAX_LOSSES)
            if self.count == 1 or not (of_jax or isinstance(error, _LOSSES)):
                raise
            if keras.backend.backend() == "jax":
                # Its own exit waits for the lost process, and then aborts this one.
                atexit.register(os._exit, EXIT_STOPPED)
            raise Stopped(
                f"worker {self.index} of {self.count} has lost another worker "
                f"({type(error).__name__}); run the same command again on every machine: it "
                "resumes from the last checkpoint"
            ) from error


def _total_of(strategy: tf.distribute.Strategy) -> Callable[[float], tf.Tensor]:
    """Returns a function that sums a float over all replicas of all processes."""

    @tf.function
    def total(number: tf.Tensor) -> tf.Tensor:
        def reduced(number: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            number = tf.identity(number)  # places it on a device
            return context.all_reduce(tf.distribute.ReduceOp.SUM, number)

        result = strategy.run(reduced, args=(number,))
        return strategy.experimental_local_results(result)[0]

    return lambda number: total(tf.constant(number))


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where a run computes."""

    strategy: Strategy  # see `tpu.strategy.get_strategy`
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
    """Connects to the devices, see `tpu.strategy.get_strategy`.

    Args:
        deterministic: whether operations give the same bits each time, slower on GPUs.
        wait_seconds: how long to wait for the other machines of `TF_CONFIG` to start.
    """
    if tpu is None:
        wait_for_peers(wait_seconds)
    with quiet_loading():
        strategy = get_strategy(tpu, tpu_address or "", sharding)
        if deterministic:
            enable_determinism()
        if tpu is None:
            settle_tensorflow()
    devices = Devices(
        on_tpu=tpu is not None,
        gpus=tuple(capability for _, capability in gpus()),
        replicas=strategy.num_replicas_in_sync,
        shared=is_shared(strategy),
        on_jax=keras.backend.backend() == "jax",
    )
    return Machine(strategy, Workers(strategy), devices, tpu)

"""Processes that train one model together, one per machine.

All of them run the same command and hold the same weights. The first one, the chief, writes the
run's folder; the others read it, so it must be on a shared file system. Whatever happens between
steps must happen in all processes or in none: they agree through `any_asks`.
"""

import atexit
import contextlib
import os

import keras
import tensorflow as tf

from pipelines.command_line import EXIT_STOPPED, Stopped, hear_signals_again

_LOSSES = tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError
# What JAX's messages then begin with; between CPUs, Gloo sends the sums.
_JAX_LOSSES = (
    "UNAVAILABLE",
    "ABORTED",
    "INTERNAL",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "UNKNOWN: Gloo",
)


class Workers:
    """The processes of a strategy: one with TensorFlow, or those of `MultiWorkerMirroredStrategy`.

    Args:
        strategy: see `tpu.strategy.get_strategy`.

    Attributes:
        count: int, the number of processes.
        index: int, the index of this process.
    """

    def __init__(self, strategy):
        self.count, self.index = 1, 0
        self._total = None
        if not isinstance(strategy, tf.distribute.Strategy):  # JAX
            self.count, self.index = strategy.processes, strategy.process
            self._total = strategy.total
        elif isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            resolver = strategy.cluster_resolver
            tasks = [
                (job, task)
                for job in sorted(resolver.cluster_spec().jobs)  # "chief" before "worker"
                for task in resolver.cluster_spec().task_indices(job)
            ]
            self.count = len(tasks)
            self.index = tasks.index((resolver.task_type, resolver.task_id))
            self._total = _total_of(strategy)
        if self.count > 1:
            hear_signals_again()

    @property
    def is_chief(self):
        """bool, whether this process writes."""
        return self.index == 0

    def any_asks(self, asks):
        """Whether any process asks for something; all of them get the same answer.

        Args:
            asks: bool, whether this one does.
        """
        if self.count == 1:
            return asks
        return bool(self._total(float(asks)) > 0)

    def wait(self):
        """Waits until all processes have called this."""
        self.any_asks(False)

    @contextlib.contextmanager
    def watched(self):
        """A context that turns the loss of another process into `Stopped`."""
        try:
            yield
        except Exception as error:
            if self.count == 1 or not _is_of_a_loss(error):
                raise
            if keras.backend.backend() == "jax":
                # Its own exit waits for the lost process, and then aborts this one.
                atexit.register(os._exit, EXIT_STOPPED)
            raise Stopped(
                f"worker {self.index} of {self.count} has lost another worker "
                f"({type(error).__name__}); run the same command again on every machine: it "
                "resumes from the last checkpoint"
            ) from error


def _is_of_a_loss(error):
    """Whether an error is one of those that are raised when another process is gone."""
    if isinstance(error, _LOSSES):
        return True
    # JAX's say it in their text alone: a step that takes too much memory raises the same types.
    return isinstance(error, (RuntimeError, ValueError)) and str(error).startswith(_JAX_LOSSES)


def _total_of(strategy):
    """Returns a function that sums a float over all replicas of all processes."""

    @tf.function
    def total(number):
        def reduced(number):
            context = tf.distribute.get_replica_context()
            number = tf.identity(number)  # places it on a device
            return context.all_reduce(tf.distribute.ReduceOp.SUM, number)

        result = strategy.run(reduced, args=(number,))
        return strategy.experimental_local_results(result)[0]

    return lambda number: total(tf.constant(number))

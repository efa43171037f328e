"""Processes that train one model together, one per machine.

All of them run the same command and hold the same weights. The first one, the chief, writes the
run's folder; the others read it, so it must be on a shared file system. Whatever happens between
steps must happen in all processes or in none: they agree through `any_asks`.
"""

import contextlib

import keras
import tensorflow as tf

from pipelines.command_line import Stopped, hear_signals_again


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
        except _errors_of_a_loss() as error:
            if self.count == 1:
                raise
            raise Stopped(
                f"worker {self.index} of {self.count} has lost another worker "
                f"({type(error).__name__}); run the same command again on every machine: it "
                "resumes from the last checkpoint"
            ) from error


def _errors_of_a_loss():
    """The errors that are raised when another process is gone."""
    errors = tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError
    if keras.backend.backend() == "jax":
        import jax

        errors += (jax.errors.JaxRuntimeError,)
    return errors


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

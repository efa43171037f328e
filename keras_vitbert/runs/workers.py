"""The processes that train one model together, a machine each (`MultiWorkerMirroredStrategy`).

All of them run the same command and hold the same weights. The chief, which is the first, writes
the run's folder; the others read it, so that it must be where all see it. What happens between the
steps must happen on all of them or on none: they ask `any_asks` first.
"""

import contextlib
import os
import shutil
import tempfile

import tensorflow as tf

from pipelines.command_line import Stopped, hear_signals_again


class Workers:
    """The processes of a strategy; with any other strategy than the above there is one.

    Args:
        strategy: `tf.distribute.Strategy`.

    Attributes:
        count: int, processes.
        index: int, of this one.
    """

    def __init__(self, strategy):
        self.count, self.index = 1, 0
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            resolver = strategy.cluster_resolver
            tasks = [
                (job, task)
                for job in sorted(resolver.cluster_spec().jobs)  # "chief" before "worker"
                for task in resolver.cluster_spec().task_indices(job)
            ]
            self.count = len(tasks)
            self.index = tasks.index((resolver.task_type, resolver.task_id))
        self._sum = None
        if self.count > 1:
            hear_signals_again()

            @tf.function
            def total(number):
                def reduced(number):
                    context = tf.distribute.get_replica_context()
                    number = tf.identity(number)  # which places it on a device
                    return context.all_reduce(tf.distribute.ReduceOp.SUM, number)

                result = strategy.run(reduced, args=(number,))
                return strategy.experimental_local_results(result)[0]

            self._sum = total

    @property
    def is_chief(self):
        """Whether this process writes."""
        return self.index == 0

    def any_asks(self, asks):
        """Whether one of the processes asks for something; the same answer on all of them.

        Args:
            asks: bool, what this one wants.
        """
        if self.count == 1:
            return asks
        return bool(self._sum(tf.constant(float(asks))) > 0)

    def wait(self):
        """Waits until all processes are here."""
        self.any_asks(False)

    @contextlib.contextmanager
    def scratch(self, path):
        """`path` for the chief; for the others a folder that is thrown away."""
        if self.is_chief:
            yield path
            return
        folder = tempfile.mkdtemp()
        try:
            yield os.path.join(folder, os.path.basename(path))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def watched(self):
        """Turns the loss of another process inside the block into `Stopped`."""
        try:
            yield
        except (
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.InternalError,
        ) as error:
            if self.count == 1:
                raise
            raise Stopped(
                f"worker {self.index} of {self.count} has lost another one "
                f"({type(error).__name__}); run the same command again on every machine: it goes "
                "on at the last checkpoint"
            ) from error

"""Writes checkpoints in the background of training, one at a time."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

from keras_vitbert.runs import checkpoints
from pipelines.command_line import one_line, say


class CheckpointWriter(contextlib.AbstractContextManager):
    """Takes snapshots of a trainer and writes them in a thread; its scope ends with the last one.

    Until it is written, a checkpoint takes the memory of one more copy of the state on this
    machine.

    Args:
        folder: str, the run's `checkpoints` folder.
        keep: int >= 1, how many checkpoints are kept.
        workers: `keras_vitbert.runs.workers.Workers`, all of which take part; the chief writes.
    """

    def __init__(self, folder, keep, workers):
        self.folder, self.keep, self.workers = folder, keep, workers
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._pending = None

    def save(self, trainer, validated=False):
        """Takes a snapshot once the previous checkpoint is written, and begins to write it.

        Args:
            trainer, validated: see `checkpoints.snapshot`.

        Raises:
            Exception: the previous checkpoint could not be written.
        """
        self._finish()
        taken = checkpoints.snapshot(trainer, validated)
        if self.workers.is_chief:
            self._pending = self._thread.submit(checkpoints.write, self.folder, taken, self.keep)

    @property
    def is_writing(self):
        """bool, whether a checkpoint is being written."""
        return self._pending is not None and not self._pending.done()

    def check(self):
        """Raises the error of a write that has failed, without waiting."""
        if not self.is_writing:
            self._finish()

    def wait(self):
        """Waits, in all processes, until the last checkpoint is written; raises as `save` does."""
        self._finish()
        self.workers.wait()

    def _finish(self):
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def __exit__(self, kind, error, traceback):
        with self._thread:
            try:
                self._finish()
            except Exception as failed:
                if kind is None:
                    raise
                say(f"the last checkpoint was not written: {one_line(failed)}")

"""Callbacks that look at a fixed set of validation examples during training."""

import itertools

import keras


class ValidationLook(keras.callbacks.Callback):
    """Calls `_show` at the start, every `interval` steps, and at the end.

    With several steps per execution, it acts at the end of the execution that contains a multiple
    of `interval`. All workers take part; only the folder's writer writes. Put it before
    `Checkpoints`, so that a checkpointed step has been looked at too.

    Args:
        stream: `JointStream`.
        folder: `RunFolder`.
        interval: int, steps.
        examples: int, images and texts each, rounded up to whole validation batches; all if there
            are fewer. Their batches are kept in memory.
        steps: int, of the whole training.
    """

    def __init__(self, stream, folder, interval, examples, steps):
        super().__init__()
        self.stream = stream
        self.folder = folder
        self.interval = interval
        self.examples = examples
        self.steps = steps
        self._batches = None

    def _show(self):
        raise NotImplementedError

    def on_train_begin(self, logs=None):
        if self.model.step == 0:
            self._show()

    def on_train_batch_end(self, batch, logs=None):
        step, executed = self.model.step, self.model.steps_per_execution
        # True only in the execution that reached a further multiple.
        if step // self.interval > (step - executed) // self.interval or step == self.steps:
            self._show()

    def _validation_batches(self):
        """The batches of the examples, distributed by the strategy: list, always the same one."""
        if self._batches is None:
            batches = self.model.distribute_strategy.distribute_datasets_from_function(
                lambda context: self.stream.validation(context)
            )
            self._batches = list(itertools.islice(batches, self._batch_count()))
        return self._batches

    def _batch_count(self):
        sizes = [size for size in (self.stream.image_batch, self.stream.text_batch) if size]
        return min(self.stream.validation_batches, max(-(-self.examples // n) for n in sizes))

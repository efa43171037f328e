"""Runs `fit` from the last checkpoint to the end of training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from keras_vitbert.runs.callbacks import Checkpoints, RunLog, Throughput
from keras_vitbert.runs.divergence import DivergenceGuard
from keras_vitbert.runs.progress import RunProgress
from keras_vitbert.runs.run import Run, Stream
from pipelines.command_line import say, stop_request
from pipelines.status import doing

if TYPE_CHECKING:
    from keras_vitbert.training.base_trainer import BaseTrainer


def fit(
    run: Run,
    trainer: BaseTrainer,
    stream: Stream,
    before_log: Iterable[keras.callbacks.Callback] = (),
    label: str = "",
    flops: float | None = None,
    later: float = 0.0,
    at_most: int = 0,
) -> int:
    """Trains to the end of the config's steps, from the last checkpoint in the run's folder.

    A callback may end it earlier, by the trainer's `stop_training`; it then saves a checkpoint.

    Args:
        trainer: compiled, and built under the run's strategy.
        stream: with validation, the config has a `validation_interval`.
        before_log: callbacks that run before an epoch's log is written.
        label, flops, later, at_most: see `RunProgress`.

    Returns:
        The step that training resumed from.

    Raises:
        ValueError: the step of the last checkpoint is not a multiple of `steps_per_execution`.
        Diverged, Stopped: see `pipelines.command_line`.
    """
    config: Any = run.config  # a `Pretraining`, where there is validation
    folder, strategy = run.folder, run.strategy
    keeper, before = Checkpoints(run), trainer.step
    with strategy.scope(), doing("looking for a checkpoint"):
        start = keeper.resume(trainer)
    if start % trainer.steps_per_execution:
        raise ValueError(
            f"steps_per_execution={trainer.steps_per_execution}: the run resumes at step {start}, "
            "which is not a multiple of it"
        )
    folder.logged_from = start and start + 1  # what was logged at `start` is right
    if start != before:
        say(f"resumed at step {start} of {config.steps}")
    throughput = Throughput(stream.images_per_step, stream.tokens_per_step)
    peak, speaks = run.machine.peak_flops(config.dtype), run.workers.is_chief
    callbacks = [
        DivergenceGuard(run, stream, keeper),
        throughput,
        RunProgress(label, config.steps, throughput, speaks, flops, peak, later, at_most),
        *before_log,
        RunLog(folder, start),
        keeper,
    ]

    # As in the steps, no Python control flow in the streams depends on tensors.
    @tf.autograph.experimental.do_not_convert
    def distributed(dataset_function: Callable[[Any], tf.data.Dataset]) -> Any:
        return strategy.distribute_datasets_from_function(dataset_function)

    validation = {}
    if validation_dataset := getattr(stream, "validation", None):
        every = config.validation_interval // config.steps_per_epoch
        last = -(-config.steps // config.steps_per_epoch)
        validation = {
            "validation_data": distributed(lambda context: validation_dataset(context)),
            "validation_freq": sorted({*range(every, last + 1, every), last}),  # epochs, from 1
            "validation_steps": getattr(stream, "validation_batches", None),
        }
    with stop_request.deferred(), keeper:
        for epoch, epochs, length in _fits(start, config.steps, config.steps_per_epoch):
            begin = trainer.step
            training = distributed(lambda context, begin=begin: stream.training(begin, context))
            trainer.fit(
                training,
                initial_epoch=epoch,
                epochs=epochs,
                steps_per_epoch=length,
                callbacks=callbacks,
                shuffle=False,
                verbose=0,  # `RunProgress` reports  # pyright: ignore[reportArgumentType]
                **validation,
            )
            if trainer.stop_training:
                break
    return start


def _fits(start: int, steps: int, steps_per_epoch: int) -> Iterator[tuple[int, int, int]]:
    """The calls of `fit` from `start` to `steps`: one for all whole epochs, one per partial epoch.

    Yields:
        (first epoch, epoch to stop before, steps per epoch).
    """
    while start < steps:
        epoch, done = divmod(start, steps_per_epoch)
        whole = (steps - start) // steps_per_epoch
        if done or not whole:
            length = min(steps_per_epoch - done, steps - start)
            yield epoch, epoch + 1, length
            start += length
        else:
            yield epoch, epoch + whole, steps_per_epoch
            start += whole * steps_per_epoch

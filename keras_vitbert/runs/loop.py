"""Runs `fit` from the last checkpoint to the end of training."""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from keras_vitbert.runs.callbacks import Checkpoints, RunLog, Throughput
from keras_vitbert.runs.divergence import DivergenceGuard
from keras_vitbert.runs.progress import RunProgress
from keras_vitbert.runs.run import Run
from pipelines.command_line import say, stop_request
from pipelines.status import doing


def fit(
    run: Run,
    trainer: Any,
    stream: Any,
    before_log: Iterable[keras.callbacks.Callback] = (),
    label: str = "",
    flops: float | None = None,
    later: float = 0.0,
) -> int:
    """Trains to the end of the config's steps, from the last checkpoint in the run's folder.

    Args:
        run: its config has `steps`, `steps_per_epoch`, `checkpoint_interval`,
            `checkpoints_to_keep` and, with validation data, `validation_interval`.
        trainer: a compiled `keras_vitbert.training.base_trainer.BaseTrainer`, built under the
            run's strategy.
        stream: has `training(step, context)`, `batch_records(step)`, `images_per_step`,
            `tokens_per_step` and optionally `validation(context)` and `validation_batches`, such as
            `pipelines.joint_stream.JointStream`.
        before_log: callbacks that run before an epoch's log is written.
        label, flops, later: see `RunProgress`.

    Returns:
        The step that training resumed from.

    Raises:
        ValueError: the step of the last checkpoint is not a multiple of `steps_per_execution`.
        Diverged, Stopped: see `pipelines.command_line`.
    """
    config, folder, strategy = run.config, run.folder, run.strategy
    keeper = Checkpoints(run)
    with strategy.scope(), doing("looking for a checkpoint"):
        start = keeper.resume(trainer)
    if start % trainer.steps_per_execution:
        raise ValueError(
            f"steps_per_execution={trainer.steps_per_execution}: the run resumes at step {start}, "
            "which is not a multiple of it"
        )
    folder.logged_from = start and start + 1  # what was logged at `start` is right
    if start:
        say(f"resumed at step {start} of {config.steps}")
    throughput = Throughput(stream.images_per_step, stream.tokens_per_step)
    peak, speaks = run.machine.peak_flops(config.dtype), run.workers.is_chief
    progress = RunProgress(label, config.steps, throughput, speaks, flops, peak, later)
    callbacks = [
        DivergenceGuard(run, stream, keeper),
        throughput,
        progress,
        *before_log,
        RunLog(folder, start),
        keeper,
    ]

    # As in the steps, no Python control flow in the streams depends on tensors.
    @tf.autograph.experimental.do_not_convert
    def distributed(dataset_function):
        return strategy.distribute_datasets_from_function(dataset_function)

    validation = {}
    if hasattr(stream, "validation"):
        every = config.validation_interval // config.steps_per_epoch
        last = -(-config.steps // config.steps_per_epoch)
        validation = {
            "validation_data": distributed(lambda context: stream.validation(context)),
            "validation_freq": sorted({*range(every, last + 1, every), last}),  # epochs, from 1
            "validation_steps": stream.validation_batches,
        }
    with stop_request.deferred(), keeper, progress:
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
                verbose=0,  # `progress` reports instead
                **validation,
            )
    return start


def _fits(start, steps, steps_per_epoch):
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

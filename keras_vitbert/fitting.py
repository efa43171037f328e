"""Drives `fit` from a checkpoint to the end of training."""

import sys

from keras_vitbert.callbacks import (
    Checkpoints,
    DivergenceGuard,
    GradientProbe,
    MaskSchedule,
    RunLog,
    Throughput,
)
from keras_vitbert.command_line import stop_request
from keras_vitbert.data_errors import reading


def fit(trainer, config, stream, folder, strategy):
    """Trains to the end of the config's steps.

    Args:
        trainer: a compiled `JointTrainer`.
        config: `ConfigDict`.
        stream: `pipelines.joint_stream.JointStream`.
        folder: `RunFolder`; training begins at its last checkpoint.
        strategy: the `tf.distribute.Strategy` that the trainer was made under.

    Returns:
        int, the step that was resumed from.

    Raises:
        UserError: a record is damaged.
        Diverged, Stopped: see `keras_vitbert.command_line`.
    """
    keeper = Checkpoints(
        folder.checkpoints,
        config.checkpoint_interval,
        config.checkpoints_to_keep,
        config.steps_per_epoch,
        config.steps,
    )
    with strategy.scope():
        start = keeper.resume(trainer)
    if start:
        print(f"resumed at step {start} of {config.steps}", file=sys.stderr, flush=True)
    callbacks = [
        DivergenceGuard(),
        Throughput(stream.images_per_step, stream.tokens_per_step),
        RunLog(folder, start),
        keeper,
    ]
    if trainer.has_images and trainer.has_text:
        if trainer.merge.masked:
            merge = config.merge
            callbacks.append(
                MaskSchedule(
                    merge.mask_update_interval, merge.mask_ratio, merge.mask_ratio_per_update
                )
            )
        callbacks.append(GradientProbe(config.steps_per_epoch, config.steps))

    def distributed(dataset_function):
        return strategy.distribute_datasets_from_function(dataset_function)

    validation = distributed(lambda context: stream.validation(context))
    with stop_request.deferred():
        for first_epoch, epochs, steps_per_epoch in _fits(
            start, config.steps, config.steps_per_epoch
        ):
            begin = trainer.step
            training = distributed(lambda context, begin=begin: stream.training(begin, context))
            with reading(stream):
                trainer.fit(
                    training,
                    initial_epoch=first_epoch,
                    epochs=epochs,
                    steps_per_epoch=steps_per_epoch,
                    validation_data=validation,
                    validation_freq=_validation_epochs(config),
                    validation_steps=stream.validation_batches,
                    callbacks=callbacks,
                    shuffle=False,
                    verbose=1 if sys.stdout.isatty() else 2,
                )
    return start


def _fits(start, steps, steps_per_epoch):
    """The calls of `fit` that lead from `start` to `steps`: whole epochs in one, parts alone.

    Yields:
        (first epoch, epoch to stop before, steps an epoch).
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


def _validation_epochs(config):
    """The epochs, from 1, that end with a validation: at every interval, and the last."""
    last = -(-config.steps // config.steps_per_epoch)
    every = config.validation_interval // config.steps_per_epoch
    return sorted({*range(every, last + 1, every), last})

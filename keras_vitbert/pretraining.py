"""Pre-trains one variant in a folder, from the beginning or from where it was left."""

import os
import re
import sys
import time

import keras
import tensorflow as tf

from keras_vitbert import checkpoints, settings
from keras_vitbert.callbacks import (
    Checkpoints,
    DivergenceGuard,
    GradientProbe,
    MaskSchedule,
    RunLog,
    Throughput,
    mask_scalars,
)
from keras_vitbert.command_line import UserError, stop_request
from keras_vitbert.data import baselines
from keras_vitbert.joint_trainer import JointTrainer
from keras_vitbert.merging import get_merge
from keras_vitbert.network import build_network
from keras_vitbert.optimizers import build_optimizer
from keras_vitbert.run_folder import RunFolder
from keras_vitbert.teachers import Teachers


def pretrain(config, variant_name, data, output_dir, strategy=None, teacher_folders=None):
    """Pre-trains one variant; its teachers first, where it needs some and they are not there.

    Args:
        config: checked `ConfigDict`.
        variant_name: str, of `settings.VARIANTS`.
        data: `keras_vitbert.data.Data`.
        output_dir: str, the run's folder.
        strategy: `tf.distribute.Strategy`; the default strategy if None.
        teacher_folders: dict, `{"image": folder, "text": folder}` of finished runs of this
            project. A folder without a run is filled with one; what is missing in the dict is
            `OUTPUT_DIR/teachers/vit` or `.../bert`.

    Returns:
        dict, the content of summary.json.

    Raises:
        UserError, Diverged, Stopped: see `keras_vitbert.command_line`.
    """
    variant = settings.find_variant(variant_name)
    strategy = strategy or tf.distribute.get_strategy()
    began = time.time()
    config = settings.apply_variant(config, variant)
    folder = RunFolder(output_dir)
    folder.begin(variant_name, config, data.vocabulary if variant.text else None)
    summary = folder.summary()
    if summary is not None:
        _say(f"{variant_name}: {summary['steps']} steps are done, see {output_dir}/summary.json")
        return summary

    teachers = None
    if config.distillation.ratio > 0:
        teachers = _teachers(config, data, output_dir, strategy, teacher_folders or {})
    stream = data.stream(config, variant.images, variant.text)
    trainer = build_trainer(config, variant, strategy, teachers)
    _say(
        f"{variant_name}: {trainer.network.count_params():,} parameters, {config.steps} steps of "
        f"{stream.images_per_step} images and {stream.tokens_per_step} tokens, on "
        f"{strategy.num_replicas_in_sync} replica(s), in {output_dir}"
    )
    resumed_from, callbacks = _fit(trainer, config, stream, folder, strategy)
    rows = callbacks["log"].rows
    summary = {
        "variant": variant_name,
        "steps": trainer.step,
        "seconds": round(time.time() - began, 1),
        **{name: rows[-1].get(name) for name in callbacks["throughput"].rates()},
        "parameters": trainer.network.count_params(),
        "resumed_from_step": resumed_from,
        "validation": _last_validation(rows),
        "baselines": baselines(stream),
        "mask": _mask_summary(trainer),
    }
    folder.finish(summary)
    return summary


def build_trainer(config, variant, strategy, teachers=None):
    """A compiled `JointTrainer` for a variant, its initial weights drawn from the config's seed.

    Args:
        config: `ConfigDict`, as `settings.apply_variant` returns it.
        variant: `settings.Variant`.
        strategy: `tf.distribute.Strategy`.
        teachers: `Teachers`, or None.
    """
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        network = build_network(
            config.model, images=variant.images, text=variant.text, dtype=config.dtype
        )
        trainer = JointTrainer(
            network,
            get_merge(config.merge, config.seed),
            teachers,
            config.distillation.ratio,
            config.distillation.temperature,
            config.optimizer.clip_norm,
        )
        # Graph mode on CPU: XLA is slower there, and TPUStrategy compiles by itself.
        trainer.compile(
            optimizer=build_optimizer(config.optimizer, config.steps, network.trainable_variables),
            jit_compile=False,
        )
    return trainer


def load_network(path, dtype="float32"):
    """The trained network of a run's folder and the run's record (the content of config.json).

    Args:
        path: str, a folder that `pretrain` wrote.
        dtype: a Keras dtype policy to run it in.

    Raises:
        UserError: there is no run, or no checkpoint in it.
    """
    folder = RunFolder(path)
    record = folder.record()
    checkpoint, _ = checkpoints.latest(folder.checkpoints)
    if record is None or checkpoint is None:
        raise UserError(f"{path} holds no run of keras_vitbert.pretrain; give a run's folder")
    variant = settings.VARIANTS[record["variant"]]
    network = build_network(
        record["config"]["model"], images=variant.images, text=variant.text, dtype=dtype
    )
    checkpoints.restore_network(checkpoint, network)
    return network, record


def _fit(trainer, config, stream, folder, strategy):
    """Trains to the end.

    Returns:
        int, the step that was resumed from; and the callbacks that the summary needs.
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
        _say(f"resumed at step {start} of {config.steps}")
    throughput = Throughput(stream.images_per_step, stream.tokens_per_step)
    log = RunLog(folder, start)
    callbacks = [DivergenceGuard(), throughput, log, keeper]
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
            begin = first_epoch * config.steps_per_epoch + (
                start % config.steps_per_epoch
                if first_epoch == start // config.steps_per_epoch
                else 0
            )
            training = distributed(lambda context, begin=begin: stream.training(begin, context))
            try:
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
            except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
                raise _data_error(error) from error
    return start, {"log": log, "throughput": throughput}


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


def _teachers(config, data, output_dir, strategy, folders):
    """The image and the text teacher, pre-trained first where they are not there."""
    networks = {}
    for kind, name, steps in (
        ("image", "vit", config.teachers.image_steps),
        ("text", "bert", config.teachers.text_steps),
    ):
        path = folders.get(kind) or os.path.join(output_dir, "teachers", name)
        if RunFolder(path).summary() is None:
            pretrain(settings.teacher_config(config, steps), name, data, path, strategy)
        with strategy.scope():
            networks[kind], record = load_network(path, config.dtype)
        _check_teacher(networks[kind], record, kind, path, config, data)
    return Teachers(**networks)


def _check_teacher(network, record, kind, path, config, data):
    """Refuses a teacher that does not see what the student sees."""
    from pipelines.vocabulary import vocabulary_hash

    teacher, student = network.backbone, config.model
    flag = f"--{kind}_teacher={path}"
    if kind == "image":
        if teacher.image_size != student.image_size:
            raise UserError(
                f"{flag}: takes images of {teacher.image_size} pixels, the student "
                f"{student.image_size}; set --config.model.image_size or give another teacher"
            )
        if network.num_classes != student.num_classes:
            raise UserError(
                f"{flag}: knows {network.num_classes} classes, the student "
                f"{student.num_classes}; give another teacher"
            )
    else:
        if record["vocabulary_sha256"] != vocabulary_hash(data.vocabulary):
            raise UserError(
                f"{flag}: has another vocabulary ({path}/vocabulary.txt); give a teacher that "
                "was trained with the student's"
            )
        if teacher.max_sequence_length < data.texts.length:
            raise UserError(
                f"{flag}: takes {teacher.max_sequence_length} tokens at most, the texts have "
                f"{data.texts.length}; give another teacher"
            )


def _last_validation(rows):
    """The last validation in the log, as numbers."""
    for row in reversed(rows):
        values = {n: v for n, v in row.items() if n.startswith("val_") and v not in ("", None)}
        if values:
            return {name.removeprefix("val_"): float(value) for name, value in values.items()}
    return {}


def _mask_summary(trainer):
    scalars = mask_scalars(trainer)
    if not scalars:
        return {}
    sparsity = scalars.pop("mask_sparsity")
    return {
        "sparsity": sparsity,
        "cleared": round(sparsity * trainer.merge.size),
        "size": trainer.merge.size,
        "sparsity_per_block": {name.split("/")[1]: value for name, value in scalars.items()},
    }


def _data_error(error):
    """A failure inside the stream, for the user."""
    asserted = re.search(r"assertion failed: \[(.*?)\] \[(.*?)\]", error.message, re.DOTALL)
    if asserted:
        return UserError(f"{asserted[1]}: {asserted[2]}; write the files anew")
    if isinstance(error, tf.errors.DataLossError):
        return UserError(f"a TFRecord file is damaged ({error.message}); write the files anew")
    return error


def _say(text):
    print(text, file=sys.stderr, flush=True)

"""Pre-trains one variant in a folder, from the beginning or from where it was left."""

import contextlib
import dataclasses
import os
import sys
import time

import keras
import tensorflow as tf

from keras_vitbert.configs import variants
from keras_vitbert.inspection.activation_maps import ActivationMaps
from keras_vitbert.inspection.mask_pictures import MaskPictures
from keras_vitbert.inspection.profiling import Profile
from keras_vitbert.inspection.run_texts import RunTexts, finish_session
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.pretraining.data import baselines
from keras_vitbert.pretraining.initial_weights import open_initial
from keras_vitbert.pretraining.teachers import Teachers, load_teacher
from keras_vitbert.runs.callbacks import GradientProbe, MaskSchedule
from keras_vitbert.runs.loop import fit
from keras_vitbert.runs.record_errors import reading
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.runs.workers import Workers
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.merging import get_merge
from keras_vitbert.training.optimizers import build_optimizer
from pipelines.shards.damage import left_out


def pretrain(
    config,
    variant_name,
    data,
    output_dir,
    strategy=None,
    teacher_folders=None,
    initial_weights="",
    profiled_steps=None,
):
    """Pre-trains one variant; its teachers first, where it needs some and they are not there.

    Args:
        config: checked `ConfigDict`.
        variant_name: str, of `variants.VARIANTS`.
        data: `keras_vitbert.pretraining.data.Data`.
        output_dir: str, the run's folder.
        strategy: `tf.distribute.Strategy`; the default strategy if None.
        teacher_folders: dict, `{"image": path, "text": path}` of teachers that were trained before,
            see `teachers.load_teacher`. One that is missing in it is pre-trained in
            `OUTPUT_DIR/teachers/vit` or `.../bert`, and found there the next time.
        initial_weights: str, what `initial_weights.open_initial` opens; "" for random ones.
        profiled_steps: (first, last) as int, the steps to trace, see `inspection.profiling`; or
            None.

    Returns:
        dict, the content of summary.json.

    Raises:
        UserError, Diverged, Stopped: see `pipelines.command_line`.
    """
    variant = variants.find_variant(variant_name)
    strategy = strategy or tf.distribute.get_strategy()
    began = time.time()
    config = variants.apply_variant(config, variant)
    variants.check_shares(config, variant, strategy.num_replicas_in_sync)
    workers = Workers(strategy)
    folder = RunFolder(output_dir, workers.is_chief)
    summary = folder.summary()
    teachers, initial = {}, None
    if summary is None:
        # Before anything is written: they may not fit.
        if config.distillation.ratio > 0:
            teachers = _given_teachers(config, data, strategy, teacher_folders or {})
        if initial_weights:
            initial = open_initial(initial_weights, config, variant, data)
    stream = data.stream(config, variant.images, variant.text)
    about = {"variant": variant_name}
    if initial_weights:
        about["initial_weights"] = initial_weights
    folder.begin(
        about,
        config,
        data.vocabulary if variant.text else None,
        stream.training_records,
        classes=data.classes if variant.images else None,
    )
    if summary is not None:
        _say(f"{variant_name}: {summary['steps']} steps are done, see {output_dir}/summary.json")
        return summary

    if config.distillation.ratio > 0:
        teachers |= _missing_teachers(teachers, config, data, output_dir, strategy)
    trainer = build_trainer(config, variant, strategy, Teachers(**teachers))
    if initial is not None:  # of a run that goes on, the checkpoint comes after it
        initial.give_to(trainer.network.backbone, strategy)
    _say(
        f"{variant_name}: {trainer.network.count_params():,} parameters, {config.steps} steps of "
        f"{_shares(config, variant, stream, strategy.num_replicas_in_sync)}, in {output_dir}"
    )
    # What is written of a step is written before its checkpoint: a run goes on behind it.
    callbacks = [
        RunTexts(folder, about, config),
        *_joint_callbacks(trainer, config, folder, stream, data.vocabulary),
    ]
    with contextlib.ExitStack() as stack:
        if profiled_steps:
            callbacks.append(stack.enter_context(Profile(*profiled_steps, folder)))
        stack.enter_context(reading(stream))
        resumed_from = fit(trainer, config, stream, folder, workers, before_log=callbacks)
    if workers.is_chief:
        summary = _summary(variant_name, trainer, stream, folder, began, resumed_from)
        finish_session(folder, summary["validation"], trainer.step)
        folder.finish(summary)
    workers.wait()
    return folder.summary()


def build_trainer(config, variant, strategy, teachers=None):
    """A compiled `JointTrainer` for a variant, its initial weights drawn from the config's seed.

    Args:
        config: `ConfigDict`, as `variants.apply_variant` returns it.
        variant: `variants.Variant`.
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
            config.inspection.gradient_histograms,
            seed=config.seed,
        )
        # Graph mode on CPU: XLA is slower there, and TPUStrategy compiles by itself.
        trainer.compile(
            optimizer=build_optimizer(config.optimizer, config.steps, network.trainable_variables),
            jit_compile=False,
            steps_per_execution=config.steps_per_execution,
        )
    return trainer


def _joint_callbacks(trainer, config, folder, stream, vocabulary):
    """What a run with both modalities does between its steps."""
    if not (trainer.has_images and trainer.has_text):
        return []
    callbacks, look_at = [], config.inspection
    if trainer.merge.masked:
        merge = config.merge
        callbacks.append(
            MaskSchedule(merge.mask_update_interval, merge.mask_ratio, merge.mask_ratio_per_update)
        )
        if look_at.mask_pictures:
            callbacks.append(MaskPictures(folder))
    if look_at.gradient_interval:
        callbacks.append(GradientProbe(look_at.gradient_interval, config.steps, folder))
    if look_at.activation_interval:
        callbacks.append(
            ActivationMaps(
                stream,
                vocabulary,
                folder,
                look_at.activation_interval,
                look_at.activation_examples,
                config.steps,
            )
        )
    return callbacks


def _shares(config, variant, stream, replicas):
    """What a step takes, and of it each replica."""
    whole, part = [], []
    if variant.images:
        whole.append(f"{config.image_batch} images")
        part.append(f"{config.image_batch // replicas} images")
    if variant.text:
        whole.append(f"{config.text_batch} texts ({stream.tokens_per_step} tokens)")
        part.append(f"{config.text_batch // replicas} texts")
    if replicas == 1:
        return " and ".join(whole)
    return f"{' and '.join(whole)}: {' and '.join(part)} on each of {replicas} replicas"


def _given_teachers(config, data, strategy, folders):
    """The teachers that were trained before: dict of kind to network."""
    with strategy.scope():
        return {
            kind: load_teacher(kind, path, config, data) for kind, path in folders.items() if path
        }


def _missing_teachers(given, config, data, output_dir, strategy):
    """The image and the text teacher that are not given, pre-trained unless they are there."""
    networks = {}
    for kind, name, steps in (
        ("image", "vit", config.teachers.image_steps),
        ("text", "bert", config.teachers.text_steps),
    ):
        if kind not in given:
            path = os.path.join(output_dir, "teachers", name)
            pretrain(variants.teacher_config(config, steps), name, data, path, strategy)
            networks |= _given_teachers(config, data, strategy, {kind: path})
    return networks


def _summary(variant_name, trainer, stream, folder, began, resumed_from):
    """The content of summary.json."""
    rows = folder.rows(up_to_step=trainer.step)
    return {
        "variant": variant_name,
        "steps": trainer.step,
        "seconds": round(time.time() - began, 1),
        **_rates(rows[-1] if rows else {}),
        "parameters": trainer.network.count_params(),
        "resumed_from_step": resumed_from,
        "validation": _last_validation(rows),
        "baselines": baselines(stream),
        "mask": _mask_summary(trainer),
        "bad_records": [dataclasses.asdict(damage) for damage in left_out(stream)],
    }


def _rates(row):
    """Images and tokens a second, of the last row of the log; 0 for a modality left out."""
    names = ("images_per_second", "tokens_per_second")
    return {name: float(row.get(name) or 0.0) for name in names}


def _last_validation(rows):
    """The last validation in the log."""
    for row in reversed(rows):
        values = {name: value for name, value in row.items() if name.startswith("val_") and value}
        if values:
            return {name.removeprefix("val_"): float(value) for name, value in values.items()}
    return {}


def _mask_summary(trainer):
    scalars = trainer.mask_sparsity()
    if not scalars:
        return {}
    sparsity = scalars.pop("mask_sparsity")
    return {
        "sparsity": sparsity,
        "cleared": round(sparsity * trainer.merge.size),
        "size": trainer.merge.size,
        "sparsity_per_block": {name.split("/")[1]: value for name, value in scalars.items()},
    }


def _say(text):
    print(text, file=sys.stderr, flush=True)

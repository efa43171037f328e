"""Pre-trains one variant in a folder, from the start or from its last checkpoint."""

import contextlib
import dataclasses
import os
import time
from typing import Any

import keras

from keras_vitbert.configs.pretraining import Pretraining, Variant
from keras_vitbert.experiments.pretraining import report
from keras_vitbert.experiments.pretraining.data import Data, open_data
from keras_vitbert.experiments.pretraining.initial_weights import open_initial, start_from
from keras_vitbert.experiments.pretraining.masked_words import guess_masked_words
from keras_vitbert.experiments.pretraining.teachers import load_teacher
from keras_vitbert.experiments.pretraining.trainer import (
    build_trainer,
    image_layers_of,
    step_flops,
)
from keras_vitbert.inspection.callbacks import (
    ActivationMaps,
    FeatureProbes,
    GradientStats,
    MaskPictures,
    Profile,
)
from keras_vitbert.inspection.run_texts import RunTexts, finish_session
from keras_vitbert.merging.masks import MaskSchedule
from keras_vitbert.runs.checkpoints import latest, restore_network
from keras_vitbert.runs.damaged_records import reading
from keras_vitbert.runs.identity import (
    FREE_OF_PRETRAINING,
    INITIAL_WEIGHTS,
    Identity,
    experiment_dict,
)
from keras_vitbert.runs.loop import fit
from keras_vitbert.runs.machine import Machine
from keras_vitbert.runs.overview import overview
from keras_vitbert.runs.progress import time_shares
from keras_vitbert.runs.provenance import data_digest, model_digest
from keras_vitbert.runs.run import Run
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.runs.run_lock import held
from keras_vitbert.trained.trained_model import TrainedModel
from keras_vitbert.training.distillation import Teacher, Teachers
from keras_vitbert.training.example_dropout import drops, generator_of
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import WeightAverages
from pipelines.command_line import say
from pipelines.joint_stream import JointStream
from pipelines.status import doing, times

_TEACHERS = {"image": "vit", "text": "bert"}  # variants that are trained where none is given


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainingRun(Run):
    """A pre-training."""

    config: Pretraining  # of its variant, see `Pretraining.as_variant`
    data: Data
    # Existing teachers by kind, `image` or `text`, see `teachers.load_teacher`. A missing one is
    # pre-trained in FOLDER/teachers/vit or bert, and found there the next time.
    teacher_paths: dict[str, str] = dataclasses.field(default_factory=dict)
    initial_weights: str = ""  # what `initial_weights.open_initial` opens; "": random
    profile: tuple[int, ...] = ()  # the first and last step to trace; not on JAX
    is_teacher: bool = False  # whether it is trained on demand for another run

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.profile:
            steps = [1, *self.profile, self.config.steps]
            if len(steps) != 4 or steps != sorted(steps):
                raise ValueError(f"profile={self.profile}: must be two steps of the run")
            if self.machine.devices.on_jax:
                raise ValueError("profile: traces TensorFlow alone, not JAX")

    @property
    def variant(self) -> Variant:
        """What is trained."""
        return self.config.variant_spec

    def train(self, dry_run: bool = False) -> dict[str, Any]:
        """Trains from the start or from the last checkpoint, after teachers that do not exist yet.

        Prints and returns the results, the content of `summary.json`. A `dry_run` stops after all
        checks, writes nothing and returns an empty dict. `Diverged` and `Stopped` are raised as
        `pipelines.command_line` says.
        """
        with self.workers.watched():
            summary = _pretrain(self, dry_run)
        if summary:
            print(report.describe(summary, self.folder.path))
        return summary

    def evaluate(self) -> dict[str, float]:
        """Measures the weights of the last checkpoint on the validation data.

        Returns:
            Losses (nats) and accuracies by name, as in `validation` of `summary.json`.
        """
        path, _ = latest(self.folder.checkpoints)
        if path is None:
            raise ValueError(f"{self.folder.path}: has no checkpoint; train first")
        config = self.config.with_values({"distillation.ratio": 0.0})  # teachers do not take part
        stream = self.data.stream(config)
        with self.workers.watched(), reading(stream):
            trainer = build_trainer(config, self.strategy)
            with self.strategy.scope():
                restore_network(path, trainer.network)
            batches = self.strategy.distribute_datasets_from_function(stream.validation)
            steps = stream.validation_batches
            return trainer.evaluate(batches, steps=steps, verbose=0, return_dict=True)  # pyright: ignore[reportArgumentType]

    def teacher_run(self, kind: str) -> "PretrainingRun":
        """The run of an `image` or `text` teacher that is trained on demand, in a subfolder."""
        name = _TEACHERS[kind]
        steps = self.config.value(f"teachers.{kind}_steps") or self.config.steps
        folder = os.path.join(self.folder.path, "teachers", name)
        return dataclasses.replace(
            self,
            config=self.config.as_variant(name).with_values({"steps": steps}),
            folder=RunFolder(folder, self.folder.writes),
            teacher_paths={},
            initial_weights="",
            profile=(),
            is_teacher=True,
        )


def open_pretraining(
    config: Pretraining,
    folder: str,
    machine: Machine,
    *,
    image_teacher: str = "",
    text_teacher: str = "",
    skip_damaged: int = 0,
    cache: bool = False,
    cache_dir: str = "",
    writes: bool = True,
    **options: Any,
) -> PretrainingRun:
    """Opens a run, new or to be resumed. Nothing is written but what the data need.

    What the devices and the data decide is resolved in the config. For `skip_damaged`, `cache` and
    `cache_dir` see `pretraining.data.open_data`; `options` are further fields of `PretrainingRun`.
    """
    config = config.for_devices(machine.devices)
    with machine.workers.watched(), doing("opening the data"):
        data = open_data(config, cache_dir, skip_damaged, cache)
    config = config.with_sizes(data.sizes).as_variant(config.variant)
    if data.case:
        config = config.with_values({"data.case": data.case})
    return PretrainingRun(
        config=config,
        folder=RunFolder(folder, machine.workers.is_chief and writes),
        machine=machine,
        data=data,
        teacher_paths={"image": image_teacher, "text": text_teacher},
        **options,
    )


def _pretrain(run: PretrainingRun, dry_run: bool = False) -> dict[str, Any]:
    config, folder = run.config, run.folder
    began, own_teachers, initial = time.time(), {}, None
    if layers := image_layers_of(config):
        layers.check()
    stream = run.data.stream(config)
    inputs = {name: data_digest(source.records) for name, source in stream.sources.items()}
    # Load first, so that a mismatch leaves no folder behind.
    given = {kind: path for kind, path in run.teacher_paths.items() if path}
    teachers = {}
    if config.distillation.ratio > 0:
        own_teachers = {kind: run.teacher_run(kind) for kind in _TEACHERS if kind not in given}
        teachers = {kind: _load_teacher(run, kind, path) for kind, path in given.items()}
    if run.initial_weights:
        initial = open_initial(run.initial_weights, config, run.data)
        inputs[INITIAL_WEIGHTS] = model_digest(initial.network)
    identity = _identity(run, stream, inputs, teachers)
    summary = folder.summary()
    if summary is not None or folder.record() is not None:
        begun = [kind for kind, teacher in own_teachers.items() if teacher.folder.record()]
        changes = identity.changes(folder, later=[f"{kind}_teacher" for kind in begun])
        # A student that goes on may keep a finished teacher.
        if summary is not None and changes and not run.is_teacher:
            names = ", ".join(change["name"] for change in changes)
            raise ValueError(f"{folder.path} holds a finished run, which accepts no {names}")
    if dry_run:
        print(overview(run))
        return {}
    if summary is not None:
        say(f"{run.variant.name}: {summary['steps']} steps are done, see {folder.path}")
        return summary
    folder.make()
    with held(folder.path, run.workers.is_chief):  # another process may train here
        if not run.is_teacher:
            print(overview(run))
        teachers_began = time.monotonic()
        for kind, teacher in own_teachers.items():
            _pretrain(teacher)
            teachers[kind] = _load_teacher(run, kind, teacher.folder.path)
        seconds = time.monotonic() - teachers_began
        _identity(run, stream, inputs, teachers).begin(folder)
        return _train(run, stream, teachers, initial, began, seconds)


def _load_teacher(run: PretrainingRun, kind: str, path: str) -> Teacher:
    with run.strategy.scope():
        return load_teacher(kind, path, run.config, run.data)


def _identity(
    run: PretrainingRun,
    stream: JointStream,
    inputs: dict[str, str],
    teachers: dict[str, Teacher],
) -> Identity:
    """What the run is made from: `Identity`."""
    config, variant = run.config, run.variant
    digests = {f"{kind}_teacher": model_digest(teacher) for kind, teacher in teachers.items()}
    return Identity(
        experiment_dict(config),
        {**inputs, **digests},
        vocabulary=run.data.vocabulary if variant.text else None,
        classes={"classes": run.data.classes or []} if variant.images else None,
        free=free_settings(variant),
        accepted=run.accepted,
        about={"records": stream.training_records},
        replicas=run.replicas,
        dropout_generator=generator_of(run.strategy) if drops(config.model) else "",
    )


def free_settings(variant: Variant) -> tuple[str, ...]:
    """Prefixes of the settings that may change when a run is resumed, see `Identity`."""
    one_modality = not (variant.images and variant.text)  # it has nothing to merge
    return (*FREE_OF_PRETRAINING, *(["merge."] if one_modality else []))


def _train(
    run: PretrainingRun,
    stream: JointStream,
    teachers: dict[str, Teacher],
    initial: TrainedModel | None,
    began: float,
    seconds_of_teachers: float,
) -> dict[str, Any]:
    """Trains what `_pretrain` has opened and checked; returns the content of `summary.json`."""
    config, folder, label = run.config, run.folder, run.variant.name
    before, own_began = times(), time.monotonic()
    with doing(f"{label}: building the model"):
        trainer = build_trainer(config, run.strategy, Teachers(**teachers))
        if initial is not None:  # a resumed run then loads its checkpoint over them
            with run.strategy.scope():
                start_from(initial, trainer.network, run.data.classes)
    count = trainer.network.count_params()
    shared = f" on {run.replicas} replicas" if run.replicas > 1 else ""
    size = 4 * count * (2 + config.optimizer.moments) / 1e9
    say(
        f"{label}: {count:,} parameters ({size:.2f} GB with gradients and moments), "
        f"{config.steps} steps{shared}, in {folder.path}"
    )
    with contextlib.ExitStack() as stack:
        callbacks = _callbacks(run, trainer, stream)
        if run.profile:
            first, last = run.profile
            callbacks.append(stack.enter_context(Profile(first, last, folder)))
        stack.enter_context(reading(stream))
        # With packed texts, each step has its own count.
        flops = None if config.data.packing else step_flops(trainer, stream)
        resumed_from = fit(run, trainer, stream, callbacks, label, flops)
    masks, words = report.mask_summary(trainer), []
    if trainer.has_text and run.data.vocabulary and not run.is_teacher:
        with doing(f"{label}: guessing masked words"):
            words = guess_masked_words(trainer, stream, run.data.vocabulary)
    if run.workers.is_chief:
        with doing(f"{label}: computing baselines from frequencies"):
            summary = report.summarize(run, trainer, stream, began, resumed_from, masks)
        summary["masked_words"] = words
        summary["time"] = time_shares(before, own_began, seconds_of_teachers)
        finish_session(folder)
        folder.finish(summary)
    run.workers.wait()
    return folder.summary() or {}


def _callbacks(
    run: PretrainingRun, trainer: JointTrainer, stream: JointStream
) -> list[keras.callbacks.Callback]:
    """What looks at a run. It writes about a step before its checkpoint does."""
    config, folder = run.config, run.folder
    merge, probes, look_at, steps = config.merge, config.probes, config.inspection, config.steps
    about = {"variant": run.variant.name}
    if run.initial_weights:
        about["initial_weights"] = run.initial_weights
    callbacks = [RunTexts(folder, about, config), WeightAverages(steps)]
    if trainer.has_images and trainer.has_text:
        if trainer.merge.mask:
            schedule = merge.mask_update_interval, merge.mask_ratio, merge.mask_ratio_per_update
            callbacks.append(MaskSchedule(*schedule))
            if look_at.mask_pictures:
                callbacks.append(MaskPictures(folder))
        if look_at.gradient_interval:
            callbacks.append(GradientStats(folder, look_at.gradient_interval, steps))
        if run.data.vocabulary and look_at.activation_interval:
            vocabulary, every = run.data.vocabulary, look_at.activation_interval
            examples = look_at.activation_examples
            callbacks.append(ActivationMaps(stream, vocabulary, folder, every, examples, steps))
    if probes.interval:
        callbacks.append(FeatureProbes(stream, folder, probes.interval, probes.examples, steps))
    return callbacks

"""Pre-trains one variant in a folder, from the start or from its last checkpoint."""

import contextlib
import dataclasses
import os
import time
from typing import Any

from keras_vitbert.configs.pretraining import Pretraining, Variant
from keras_vitbert.experiments.pretraining import report
from keras_vitbert.experiments.pretraining.baselines import baselines
from keras_vitbert.experiments.pretraining.initial_weights import open_initial, start_from
from keras_vitbert.experiments.pretraining.step_flops import step_flops
from keras_vitbert.experiments.pretraining.teachers import load_teacher
from keras_vitbert.experiments.pretraining.trainer import build_trainer, image_layers_of
from keras_vitbert.inspection.callbacks import (
    ActivationMaps,
    FeatureProbes,
    GradientProbe,
    MaskPictures,
    Profile,
)
from keras_vitbert.inspection.run_texts import RunTexts, finish_session
from keras_vitbert.merging.entries import MaskSchedule
from keras_vitbert.runs.checkpoints import latest, restore_network
from keras_vitbert.runs.identity import (
    FREE_OF_PRETRAINING,
    INITIAL_WEIGHTS,
    Identity,
    add_inputs,
    experiment_dict,
)
from keras_vitbert.runs.input_digests import data_digest, model_digest
from keras_vitbert.runs.loop import fit
from keras_vitbert.runs.overview import overview
from keras_vitbert.runs.progress import time_shares
from keras_vitbert.runs.record_errors import reading
from keras_vitbert.runs.run import Run
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.runs.run_lock import held
from keras_vitbert.training.distillation import Teachers
from keras_vitbert.training.example_dropout import drops, generator_of
from keras_vitbert.training.optimizers import WeightAverages
from pipelines.command_line import say
from pipelines.status import doing, times

_TEACHERS = {"image": "vit", "text": "bert"}  # variants that are trained where none is given


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainingRun(Run):
    """A pre-training."""

    config: Pretraining  # of its variant, see `Pretraining.as_variant`
    # Existing teachers by kind, `image` or `text`, see `teachers.load_teacher`. A missing one is
    # pre-trained in FOLDER/teachers/vit or bert, and found there the next time.
    teacher_paths: dict[str, str] = dataclasses.field(default_factory=dict)
    initial_weights: str = ""  # what `initial_weights.open_initial` opens; "": random
    profile: tuple[int, ...] = ()  # the first and last step to trace; not on JAX
    teaches: str = ""  # `image` or `text` for a teacher that is trained on demand

    def __post_init__(self):
        super().__post_init__()
        if self.profile:
            fits = len(self.profile) == 2 and 1 <= self.profile[0] <= self.profile[1]
            if not fits or self.profile[1] > self.config.steps:
                most = f"1 <= START <= STOP <= {self.config.steps}"
                raise ValueError(f"profile={self.profile}: must be START,STOP, {most}")
            if self.machine.devices.on_jax:
                raise ValueError("profile: traces TensorFlow alone, not JAX")

    @property
    def variant(self) -> Variant:
        """What is trained."""
        return self.config.parts

    def train(self, dry_run: bool = False) -> dict[str, Any]:
        """Trains from the start or from the last checkpoint, after teachers that do not exist yet.

        Args:
            dry_run: whether to stop after all checks; then nothing is written.

        Returns:
            The content of `summary.json`, whose results it prints; empty for a dry run.

        Raises:
            ValueError, Diverged, Stopped: see `pipelines.command_line`.
        """
        with self.workers.watched():
            summary = _pretrain(self, dry_run)
        if summary:
            print(report.printed(summary, self.folder.path))
        return summary

    def evaluate(self) -> dict[str, float]:
        """Measures the weights of the last checkpoint on the validation data.

        Returns:
            Losses (nats) and accuracies by name, as in `validation` of `summary.json`.

        Raises:
            ValueError: there is no checkpoint, or it is damaged.
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
            return trainer.evaluate(batches, steps=steps, verbose=0, return_dict=True)

    def of_teacher(self, kind: str) -> "PretrainingRun":
        """The run of an `image` or `text` teacher that is trained on demand, in a subfolder."""
        name = _TEACHERS[kind]
        steps = self.config.value(f"teachers.{kind}_steps") or self.config.steps
        return PretrainingRun(
            config=self.config.as_variant(name).with_values({"steps": steps}),
            folder=RunFolder(os.path.join(self.folder.path, "teachers", name), self.folder.writes),
            machine=self.machine,
            data=self.data,
            teaches=kind,
            on_divergence=self.on_divergence,
            max_divergences=self.max_divergences,
            accepted=self.accepted,
        )

    def about_teacher(self, kind: str) -> str:
        """Where a teacher comes from, in words."""
        steps = self.config.value(f"teachers.{kind}_steps") or self.config.steps
        own = f"{_TEACHERS[kind]}, {steps:,} steps, trained first unless it exists"
        return f"{kind}s: {self.teacher_paths.get(kind) or own}"


def _pretrain(run, dry_run=False):
    config, variant, folder, data = run.config, run.variant, run.folder, run.data
    began = time.time()
    if layers := image_layers_of(config):
        layers.check()
    stream = data.stream(config)
    inputs = {name: data_digest(source.records) for name, source in stream.sources.items()}
    # Load first, so that a mismatch leaves no folder behind.
    teachers, initial, own_teachers = {}, None, []
    if config.distillation.ratio > 0:
        teachers = _given_teachers(run, run.teacher_paths)
        for kind, teacher in teachers.items():
            inputs[f"{kind}_teacher"] = model_digest(teacher)
        own_teachers = [f"{kind}_teacher" for kind in _TEACHERS if _has_own(run, kind)]
    if run.initial_weights:
        initial = open_initial(run.initial_weights, config, data)
        inputs[INITIAL_WEIGHTS] = model_digest(initial.network)
    identity = Identity(
        experiment_dict(config),
        inputs,
        vocabulary=data.vocabulary if variant.text else None,
        classes=data.classes if variant.images else None,
        free=free_settings(variant),
        accepted=run.accepted,
        later=own_teachers,
        about={"records": stream.training_records},
        replicas=run.replicas,
        dropout_generator=generator_of(run.strategy) if drops(config.model) else "",
    )
    summary = folder.summary()
    if summary is not None or folder.record() is not None:
        changes = identity.changes(folder)
        # A student that goes on may keep a finished teacher.
        if summary is not None and changes and not run.teaches:
            raise ValueError(
                f"{folder.path} holds a finished run, which accepts no changes "
                f"({', '.join(change['name'] for change in changes)})"
            )
    if dry_run:
        print(overview(run))
        return {}
    if summary is not None:
        say(f"{variant.name}: {summary['steps']} steps are done, see {folder.path}/summary.json")
        return summary
    folder.make()
    with held(folder.path, run.workers.is_chief):
        identity.begin(folder)  # under the lock: another process may train here
        if not run.teaches:
            print(overview(run))
        return _trained(run, stream, teachers, initial, began)


def free_settings(variant: Variant) -> tuple[str, ...]:
    """Prefixes of the settings that may change when a run is resumed, see `Identity`."""
    one_modality = not (variant.images and variant.text)  # it has nothing to merge
    return (*FREE_OF_PRETRAINING, *(["merge."] if one_modality else []))


def _has_own(run, kind):
    """Whether a teacher is not given, but in the run's folder."""
    return not run.teacher_paths.get(kind) and run.of_teacher(kind).folder.record() is not None


def _trained(run, stream, teachers, initial, began):
    """Trains what `pretrain` has opened and checked; returns the content of `summary.json`."""
    config, variant, folder = run.config, run.variant, run.folder
    label, of_teachers, known = variant.name, 0.0, {}
    if config.distillation.ratio > 0:
        teachers_began = time.monotonic()
        own, known = _missing_teachers(run, teachers)
        digests = {f"{kind}_teacher": model_digest(network) for kind, network in own.items()}
        add_inputs(folder, digests, run.accepted)
        teachers |= own
        of_teachers = time.monotonic() - teachers_began
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
    about = {"variant": variant.name}
    if run.initial_weights:
        about["initial_weights"] = run.initial_weights
    # These write about a step before its checkpoint does: a resumed run starts after it.
    callbacks = [RunTexts(folder, about, config), WeightAverages(config.steps)]
    callbacks += _joint_callbacks(run, trainer, stream)
    if config.probes.interval:
        probes = config.probes
        callbacks.append(
            FeatureProbes(stream, folder, probes.interval, probes.examples, config.steps)
        )
    with contextlib.ExitStack() as stack:
        if run.profile:
            callbacks.append(stack.enter_context(Profile(*run.profile, folder)))
        stack.enter_context(reading(stream))
        # With packed texts, each step has its own count.
        flops = None if config.data.packing else step_flops(trainer, stream)
        resumed_from = fit(run, trainer, stream, callbacks, label, flops)
    masks = report.mask_summary(trainer)
    if run.workers.is_chief:
        with doing(f"{label}: computing baselines from frequencies"):
            scores = baselines(stream, known)
        summary = report.summarised(run, trainer, stream, began, resumed_from, scores, masks)
        summary["time"] = time_shares(before, own_began, of_teachers)
        finish_session(folder)
        folder.finish(summary)
    run.workers.wait()
    return folder.summary()


def _joint_callbacks(run, trainer, stream):
    """The callbacks of a run with both modalities."""
    if not (trainer.has_images and trainer.has_text):
        return []
    config, folder = run.config, run.folder
    callbacks, look_at = [], config.inspection
    if trainer.merge.mask:
        merge = config.merge
        callbacks.append(
            MaskSchedule(merge.mask_update_interval, merge.mask_ratio, merge.mask_ratio_per_update)
        )
        if look_at.mask_pictures:
            callbacks.append(MaskPictures(folder))
    if look_at.gradient_interval:
        callbacks.append(GradientProbe(folder, look_at.gradient_interval, config.steps))
    if look_at.activation_interval:
        callbacks.append(
            ActivationMaps(
                stream,
                run.data.vocabulary,
                folder,
                interval=look_at.activation_interval,
                examples=look_at.activation_examples,
                steps=config.steps,
            )
        )
    return callbacks


def _given_teachers(run, paths):
    """The teachers that already exist: dict of kind to network."""
    with run.strategy.scope():
        return {
            kind: load_teacher(kind, path, run.config, run.data)
            for kind, path in paths.items()
            if path
        }


def _missing_teachers(run, given):
    """The teachers that were not given, pre-trained unless they are finished.

    Returns:
        (dict of kind to network; dict, the baselines of their runs, which have the same data).
    """
    networks, known = {}, {}
    for kind in _TEACHERS:
        if kind not in given:
            teacher = run.of_teacher(kind)
            scores = _pretrain(teacher)["baselines"]
            if not any(run.accepted):  # else it may have been trained on other data
                known |= scores
            networks |= _given_teachers(run, {kind: teacher.folder.path})
    return networks, known

"""Pre-trains one variant in a folder, from the start or from its last checkpoint."""

import contextlib
import dataclasses
import os
import time

from keras_vitbert.configs.pretraining import Pretraining, Variant
from keras_vitbert.inspection.activation_maps import ActivationMaps
from keras_vitbert.inspection.co_activation import co_activation
from keras_vitbert.inspection.feature_probes import FeatureProbes
from keras_vitbert.inspection.gradient_probe import GradientProbe
from keras_vitbert.inspection.mask_pictures import MaskPictures
from keras_vitbert.inspection.profiling import Profile
from keras_vitbert.inspection.run_texts import RunTexts, finish_session
from keras_vitbert.inspection.value_files import read_values, stored_steps
from keras_vitbert.merging.entries import MaskSchedule
from keras_vitbert.pretraining import overview
from keras_vitbert.pretraining.baselines import baselines
from keras_vitbert.pretraining.initial_weights import open_initial, start_from
from keras_vitbert.pretraining.step_flops import step_flops
from keras_vitbert.pretraining.teachers import load_teacher
from keras_vitbert.pretraining.trainer import build_trainer, image_layers_of
from keras_vitbert.runs import divergence
from keras_vitbert.runs.identity import (
    FREE_OF_PRETRAINING,
    INITIAL_WEIGHTS,
    Identity,
    add_inputs,
    experiment_dict,
)
from keras_vitbert.runs.input_digests import data_digest, model_digest
from keras_vitbert.runs.loop import fit
from keras_vitbert.runs.overview import passes, table
from keras_vitbert.runs.progress import time_shares
from keras_vitbert.runs.record_errors import reading
from keras_vitbert.runs.run import Run
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.runs.run_lock import held
from keras_vitbert.training.averages import WeightAverages
from keras_vitbert.training.distillation import Teachers
from keras_vitbert.training.example_dropout import drops, generator_of
from pipelines.command_line import say
from pipelines.shards.damage import left_out
from pipelines.status import doing, times

_TEACHERS = {"image": "vit", "text": "bert"}  # variants that are trained where none is given


@dataclasses.dataclass(frozen=True)
class PretrainingRun(Run):
    """A pre-training."""

    config: Pretraining  # of its variant, see `Pretraining.as_variant`
    # Existing teachers by kind, `image` or `text`, see `teachers.load_teacher`. A missing one is
    # pre-trained in FOLDER/teachers/vit or bert, and found there the next time.
    teacher_paths: dict[str, str] = dataclasses.field(default_factory=dict)
    initial_weights: str = ""  # what `initial_weights.open_initial` opens; "": random
    profiled_steps: tuple[int, int] | None = None  # the first and last step to trace
    teaches: str = ""  # `image` or `text` for a teacher that is trained on demand

    @property
    def variant(self) -> Variant:
        """What is trained."""
        return self.config.parts

    def train(self, dry_run: bool = False) -> dict:
        """Trains from the start or from the last checkpoint, after teachers that do not exist yet.

        Args:
            dry_run: whether to stop after all checks; then nothing is written.

        Returns:
            The content of `summary.json`; empty for a dry run.

        Raises:
            ValueError, Diverged, Stopped: see `pipelines.command_line`.
        """
        with self.workers.watched():
            return _pretrain(self, dry_run)

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
            divergence=self.divergence,
            accepted=self.accepted,
        )


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
        _tell(run)
        return {}
    if summary is not None:
        say(f"{variant.name}: {summary['steps']} steps are done, see {folder.path}/summary.json")
        return summary
    folder.make()
    with held(folder.path, run.workers.is_chief):
        identity.begin(folder)  # under the lock: another process may train here
        if not run.teaches:
            _tell(run)
        return _trained(run, stream, teachers, initial, began)


def _tell(run):
    print(table(overview.rows(run)))


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
    size = 4 * count * (2 + config.optimizer.moments) / 1e9
    say(
        f"{label}: {count:,} parameters ({size:.2f} GB with gradients and moments), "
        f"{config.steps} steps of "
        f"{_shares(run, stream)}, in {folder.path}"
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
        if run.profiled_steps:
            callbacks.append(stack.enter_context(Profile(*run.profiled_steps, folder)))
        stack.enter_context(reading(stream))
        # With packed texts, each step has its own count.
        flops = None if config.data.packing else step_flops(trainer, stream)
        resumed_from = fit(run, trainer, stream, callbacks, label, flops)
    masks = _mask_summary(trainer)  # on all workers
    if run.workers.is_chief:
        with doing(f"{label}: computing baselines from frequencies"):
            scores = baselines(stream, known)
        summary = _summary(run, trainer, stream, began, resumed_from, scores, masks)
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
        callbacks.append(GradientProbe(look_at.gradient_interval, config.steps, folder))
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


def _shares(run, stream):
    """Describes a step's batch, what the steps mean for the data, and each replica's share."""
    config, replicas = run.config, run.replicas
    whole, part = [], []

    def seen(batch, name):
        return f"{passes(config.steps, batch, stream.training_records[name])} passes"

    if run.variant.images:
        batch = config.image_batch
        whole.append(f"{batch} images ({seen(batch, 'images')})")
        part.append(f"{config.image_batch // replicas} images")
    if run.variant.text:
        batch, tokens = config.text_batch, stream.tokens_per_step
        whole.append(f"{batch} texts ({tokens:,} tokens; {seen(batch, 'texts')})")
        part.append(f"{config.text_batch // replicas} texts")
    if replicas == 1:
        return " and ".join(whole)
    return f"{' and '.join(whole)}: {' and '.join(part)} on each of {replicas} replicas"


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


def _summary(run, trainer, stream, began, resumed_from, scores, masks):
    """The content of `summary.json`."""
    rows = run.folder.rows(up_to_step=trainer.step)
    return {
        "variant": run.variant.name,
        "steps": trainer.step,
        "seconds": round(time.time() - began, 1),
        **_rates(rows[-1] if rows else {}),
        "parameters": trainer.network.count_params(),
        "resumed_from_step": resumed_from,
        "validation": _last_validation(run.folder, rows, trainer.step),
        "baselines": scores,
        "mask": masks,
        "co_activation": _co_activation(run.folder.path, trainer.step),
        "divergences": divergence.counts(trainer),
        "bad_records": [dataclasses.asdict(damage) for damage in left_out(stream)],
    }


def _rates(row):
    """Images and tokens a second from the last row of the log; 0 for an absent modality."""
    names = ("images_per_second", "tokens_per_second")
    return {name: float(row.get(name) or 0.0) for name in names}


def _last_validation(folder, rows, step):
    """The last validation in the log, which is that of the last step."""
    row = rows[-1] if rows else {"step": 0}
    values = {name: value for name, value in row.items() if name.startswith("val_") and value}
    if int(row["step"]) != step or not values:
        raise ValueError(
            f"{folder.path}/metrics.csv is damaged (it lacks the validation at step {step}); write "
            f"the name of an older checkpoint into {folder.checkpoints}/LAST, or begin again"
        )
    return {name.removeprefix("val_"): float(value) for name, value in values.items()}


def _mask_summary(trainer):
    scalars = trainer.mask_sparsity()
    if not scalars:
        return {}
    sparsity = scalars.pop("mask_sparsity")
    return {
        "sparsity": sparsity,
        "cleared": round(sparsity * trainer.merge.mask.size),
        "size": trainer.merge.mask.size,
        "sparsity_per_block": {name.split("/")[1]: value for name, value in scalars.items()},
    }


def _co_activation(path, step):
    """How far the modalities share the units of each block at the end, if that was recorded."""
    if step not in stored_steps(path, "activations"):
        return {}
    values = read_values(path, "activations", steps=[step])[step]
    found = co_activation(values["image"], values["text"])
    return {
        name: [round(float(number), 4) for number in numbers] for name, numbers in found.items()
    }

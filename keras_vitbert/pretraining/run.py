"""Pre-trains one variant in a folder, from the start or from its last checkpoint."""

import contextlib
import dataclasses
import os
import time

from keras_vitbert.configs import merges, variants
from keras_vitbert.configs.overrides import flatten
from keras_vitbert.configs.variants import Variant
from keras_vitbert.inspection.activation_maps import ActivationMaps
from keras_vitbert.inspection.co_activation import co_activation
from keras_vitbert.inspection.feature_probes import FeatureProbes
from keras_vitbert.inspection.gradient_probe import GradientProbe
from keras_vitbert.inspection.mask_pictures import MaskPictures
from keras_vitbert.inspection.profiling import Profile
from keras_vitbert.inspection.run_texts import RunTexts, finish_session
from keras_vitbert.inspection.value_files import read_values, stored_steps
from keras_vitbert.merging.mask_schedule import MaskSchedule
from keras_vitbert.pretraining.baselines import baselines
from keras_vitbert.pretraining.initial_weights import open_initial, start_from
from keras_vitbert.pretraining.step_flops import step_flops
from keras_vitbert.pretraining.teachers import load_teacher
from keras_vitbert.pretraining.trainer import build_trainer, image_layers_of
from keras_vitbert.runs import divergence, identity
from keras_vitbert.runs.identity import data_input, model_input, names_input
from keras_vitbert.runs.loop import fit
from keras_vitbert.runs.overview import passes
from keras_vitbert.runs.progress import time_shares
from keras_vitbert.runs.record_errors import reading
from keras_vitbert.runs.run import Run
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.runs.run_lock import held
from keras_vitbert.runs.run_settings import RunSettings, check_inputs
from keras_vitbert.training.averages import WeightAverages
from keras_vitbert.training.distillation import Teachers
from keras_vitbert.training.example_dropout import drops, generator_of
from pipelines.command_line import say
from pipelines.shards.damage import left_out
from pipelines.status import doing, times

_GIVEN_BY_FLAGS = ("image_teacher", "text_teacher", identity.INITIAL_WEIGHTS)


@dataclasses.dataclass(frozen=True)
class PretrainingRun(Run):
    """A run of `pretrain`.

    Attributes:
        variant: `Variant`, already applied to the config, see `variants.apply_variant`.
        teacher_paths: dict, `{"image": path, "text": path}` of existing teachers, see
            `teachers.load_teacher`. A missing one is pre-trained in `OUTPUT_DIR/teachers/vit` or
            `.../bert`, and found there the next time.
        initial_weights: str, what `initial_weights.open_initial` opens; "" for random weights.
        profiled_steps: (first, last), ints, the steps to trace, see `inspection.profiling`; or
            None.
        teaches: str, `image` or `text` for a teacher that is trained on demand; else "".
    """

    variant: Variant
    teacher_paths: dict[str, str] = dataclasses.field(default_factory=dict)
    initial_weights: str = ""
    profiled_steps: tuple[int, int] | None = None
    teaches: str = ""

    @property
    def steps_flag(self):
        """str, the flag that sets its steps."""
        return f"config.teachers.{self.teaches}_steps" if self.teaches else "config.steps"

    def of_teacher(self, name, steps):
        """The run of a teacher that is trained on demand, in a subfolder of this one.

        Args:
            name: str, its variant.
            steps: int; 0 for as many as the student.
        """
        variant = variants.VARIANTS[name]
        config = variants.apply_variant(self.config, variant)
        config.steps = steps or config.steps
        path = os.path.join(self.folder.path, "teachers", name)
        folder = RunFolder(path, self.folder.writes)
        return PretrainingRun(
            *(config, folder, self.workers, self.strategy, self.data, variant),
            teaches="image" if variant.images else "text",
            divergence=self.divergence,
            accepted=self.accepted,
            peak_flops=self.peak_flops,
        )


def pretrain(run, tell=lambda: None, dry_run=False):
    """Pre-trains one variant, after the teachers that it needs and that do not exist yet.

    Args:
        run: `PretrainingRun`.
        tell: callable without arguments that reports what will be done; called after all checks.
        dry_run: bool, whether to stop there; then nothing is written.

    Returns:
        dict, the content of `summary.json`; empty for a dry run.

    Raises:
        ValueError, Diverged, Stopped: see `pipelines.command_line`.
    """
    config, variant, folder, data = run.config, run.variant, run.folder, run.data
    began = time.time()
    variants.check_masks(config, variant)
    variants.check_shares(config, variant, run.replicas)
    if layers := image_layers_of(config, variant):
        layers.check()
    stream = data.stream(config, variant.images, variant.text)
    classes = data.classes if variant.images else None
    inputs = {
        name: data_input(source.records, source.records.pattern)
        for name, source in stream.sources.items()
    }
    if classes:
        inputs["classes"] = names_input(classes)
    record = folder.record() or {}
    # Load first, so that a mismatch leaves no folder behind.
    teachers, initial = {}, None
    if config.distillation.ratio > 0:
        teachers = _given_teachers(run, run.teacher_paths)
        for kind, teacher in teachers.items():
            inputs[f"{kind}_teacher"] = model_input(teacher, run.teacher_paths[kind])
    if run.initial_weights:
        identity.require_weights_at_start(folder.path, record)
        initial = open_initial(run.initial_weights, config, variant, data)
        inputs[identity.INITIAL_WEIGHTS] = model_input(initial.network, run.initial_weights)
    known = record.get("inputs", {})
    identity.require_given(folder.path, known, inputs, _GIVEN_BY_FLAGS, run.accepted)
    if dry_run:
        tell()
        return {}
    summary = folder.summary()
    settings = RunSettings(
        {"variant": variant.name},
        config,
        data.vocabulary if variant.text else None,
        stream.training_records,
        free=free_settings(config, variant),
        classes=classes,
        inputs=inputs,
        accepted=run.accepted,
        replicas=run.replicas,
        dropout_generator=generator_of(run.strategy) if drops(config.model) else "",
        steps_flag=run.steps_flag,
    )
    if summary is not None:
        changes = settings.compare(folder)
        if changes and not run.teaches:  # a student that goes on may keep a finished teacher
            raise ValueError(
                f"{folder.path} holds a finished run, which accepts no other "
                f"{', '.join(map(identity.name_of, changes))}; give what it was made with, or "
                "another --output_dir"
            )
        say(f"{variant.name}: {summary['steps']} steps are done, see {folder.path}/summary.json")
        return summary
    folder.make()
    with held(folder.path, run.workers.is_chief):
        settings.begin(folder)  # under the lock: another process may train here
        tell()
        return _trained(run, stream, teachers, initial, began)


def free_settings(config, variant):
    """Prefixes of the settings that may change when a run is resumed, see `RunSettings`.

    Args:
        config: `ConfigDict`, as `variants.apply_variant` returns it.
        variant: `Variant`.

    Returns:
        tuple of str.
    """
    merge = ["merge."]  # one modality has nothing to merge
    if variant.images and variant.text:
        merge = merges.unread(flatten(config))  # older versions took these settings
    return (*identity.FREE_OF_PRETRAINING, *(f"config.{key}" for key in merge))


def _trained(run, stream, teachers, initial, began):
    """Trains what `pretrain` has opened and checked; returns the content of `summary.json`."""
    config, variant, folder = run.config, run.variant, run.folder
    label, of_teachers, known = variant.name, 0.0, {}
    if config.distillation.ratio > 0:
        teachers_began = time.monotonic()
        own, known = _missing_teachers(run, teachers)
        own_inputs = {f"{kind}_teacher": model_input(network) for kind, network in own.items()}
        check_inputs(folder, own_inputs, run.accepted)
        teachers |= own
        of_teachers = time.monotonic() - teachers_began
    before, own_began = times(), time.monotonic()
    with doing(f"{label}: building the model"):
        trainer = build_trainer(config, variant, run.strategy, Teachers(**teachers))
        if initial is not None:  # a resumed run then loads its checkpoint over them
            with run.strategy.scope():
                start_from(initial, trainer.network, run.data.classes)
    say(
        f"{label}: {trainer.network.count_params():,} parameters, {config.steps} steps of "
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
    networks, known, teachers = {}, {}, run.config.teachers
    for kind, name, steps in (
        ("image", "vit", teachers.image_steps),
        ("text", "bert", teachers.text_steps),
    ):
        if kind not in given:
            teacher = run.of_teacher(name, steps)
            scores = pretrain(teacher)["baselines"]
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

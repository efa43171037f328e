"""A trial: one training with one learning rate and one seed, and its result.

It has its own folder, `trials/NAME/`, and resumes where it stopped. `result.json` exists if and
only if it is finished.
"""

import dataclasses
import gc
import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.configs.fine_tuning import FineTuning, JointTasks, dotted
from keras_vitbert.experiments.fine_tuning.evaluation import Evaluator, Split
from keras_vitbert.experiments.fine_tuning.length import TOO_EARLY, Length, Measuring
from keras_vitbert.experiments.fine_tuning.recommended import with_intervals
from keras_vitbert.experiments.fine_tuning.task_data import cut
from keras_vitbert.experiments.fine_tuning.trainer import build_fine_tuner
from keras_vitbert.experiments.fine_tuning.trial_evaluation import (
    EvaluatedTask,
    Examples,
    Validation,
    evaluate,
)
from keras_vitbert.inspection.callbacks import GradientStats, MaskPictures
from keras_vitbert.inspection.run_texts import RunTexts, finish_session
from keras_vitbert.merging import MaskSchedule
from keras_vitbert.model.classifier import Classifier, classifiers_of
from keras_vitbert.model.flops import TRAINING, classified_text_flops, image_flops
from keras_vitbert.runs import divergence
from keras_vitbert.runs.checkpoints import latest
from keras_vitbert.runs.damaged_records import reading_images
from keras_vitbert.runs.loop import fit
from keras_vitbert.runs.overview import passes
from keras_vitbert.runs.progress import time_shares
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.training.optimizers import WeightAverages
from pipelines.command_line import Diverged, say
from pipelines.files import printable
from pipelines.joint_stream import joined
from pipelines.status import doing, times
from pipelines.tasks.labelled_images import LabelledImages
from pipelines.tasks.labelled_texts import LabelledTexts


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training's purpose, learning rate and seed."""

    purpose: str  # `sweep` (to pick a learning rate) or `seed` (to report)
    learning_rate: float  # the peak
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.purpose}-rate-{self.learning_rate!r}-seed-{self.seed}"


class TaskStream:
    """The training examples of a trial, for `keras_vitbert.runs.loop.fit`.

    A step takes one batch of each split; there is at most one of images and one of texts.
    """

    def __init__(self, splits: Sequence[Split], batches: Sequence[int], seed: int, steps: int):
        self._seed = seed
        self._images: list[tuple[LabelledImages, int]] = []
        self._texts: list[tuple[LabelledTexts, np.ndarray]] = []
        self.images_per_step = self.tokens_per_step = 0
        for split, batch in zip(splits, batches, strict=True):
            if isinstance(split, LabelledImages):
                self._images.append((split, batch))
                self.images_per_step = batch
            else:
                plan = split.training_plan(seed, steps, batch)
                self._texts.append((split, plan))
                self.tokens_per_step = round(split.batch_lengths(plan).mean() * batch)

    def training(self, step: int, context: tf.distribute.InputContext | None) -> tf.data.Dataset:
        """The endless batches from a step on."""
        streams = [
            images.training(self._seed, step, batch, context) for images, batch in self._images
        ]
        streams += [texts.training(plan, step, context) for texts, plan in self._texts]
        # A dataset that may end has no fixed shapes on replicas: its last batch may be smaller.
        return joined(streams).repeat()

    def batch_records(self, step: int) -> dict[str, list[str]]:
        """The examples of a step's batch: names of `images`, indices of `texts`."""
        records = {}
        for images, batch in self._images:
            names = images.store.names(self._seed, step * batch, batch)
            records["images"] = [printable(name) for name in names]
        for _, plan in self._texts:
            records["texts"] = [str(index) for index in plan[step]]
        return records


def run_trial(
    run: Any,
    trial: Trial,
    examples: dict[str, Examples],
    label: str = "",
    later: float = 0.0,
) -> dict[str, Any]:
    """Trains and evaluates, or reads the result of a finished trial.

    The examples are of the config's tasks, by their sections. The first of a task's splits `tests`
    is evaluated during training, too. A diverged trial of a sweep is a result, not an error.
    `later` are the seconds that the trials after it take.

    Returns:
        The content of result.json: `learning_rate`, `seed`, `steps`, `still_improves` (at the last
        of `most_steps`), `seconds`, `transfer`, `parameters`, `trained_parameters`, `diverged`,
        `divergences`, `splits`, by a split's name its `Predictions.measures`, and `classes`, by a
        split's name its `class_measures`. Of two tasks, the names of splits begin with the section.
    """
    workers = run.workers
    folder = RunFolder(os.path.join(run.folder.path, "trials", trial.name), workers.is_chief)
    known = folder.result()
    wanted = {dotted(section, split) for section in examples for split in examples[section].tests}
    if known and (known["diverged"] or wanted <= known["splits"].keys()):
        return known
    began = time.time() - float(folder.read("seconds.txt") or 0)  # until it was stopped
    before, own_began = times(), time.monotonic()
    if workers.is_chief:
        tf.io.gfile.makedirs(folder.checkpoints)
    config = run.config.with_values({"optimizer.learning_rate": trial.learning_rate})
    most = run.machine.devices.most_executed
    counts = [of_task.train.count for of_task in examples.values()]
    evaluated = [of_task.first.count for of_task in examples.values()]
    if trial.purpose == "sweep":
        config = config.with_values({"most_steps": 0})
    config = with_intervals(config, counts[0], evaluated, most)
    with doing("building the model"):
        trainer, transferred = build_fine_tuner(
            config,
            run.pretrained,
            [len(of_task.classes) for of_task in examples.values()],
            trial.seed,
            run.strategy,
        )
    network = trainer.network
    batches = [config.tasks[section].batch for section in examples]
    most = config.most_steps or config.steps
    over = ", ".join(
        f"{passes(most, batch, count)} passes over {count:,} examples"
        for batch, count in zip(batches, counts, strict=True)
    )
    steps = f"{'at most ' if config.most_steps else ''}{most:,} steps"
    say(f"{label}: {network.count_params():,} parameters, {steps} ({over})")
    result = {
        **dataclasses.asdict(trial),
        "steps": config.steps,
        "parameters": network.count_params(),
        "trained_parameters": sum(math.prod(v.shape) for v in network.trainable_variables),
        "transfer": transferred,
        "still_improves": False,
        "diverged": False,
        "splits": {},
    }
    classifiers = classifiers_of(network)
    tasks = [
        EvaluatedTask(
            section,
            of_task,
            Evaluator(
                classifiers[config.tasks[section].modality], run.strategy, config.evaluation_batch
            ),
        )
        for section, of_task in examples.items()
    ]
    splits = [of_task.train for of_task in examples.values()]
    about = {"task": config.task_names, "checkpoint": run.pretrained.name, "purpose": trial.purpose}
    first = [
        RunTexts(folder, about, config.with_values({"seed": trial.seed})),
        *_merge_callbacks(config, folder),
        Validation(trainer, tasks, config),
    ]
    length, starts = Length.read(config, folder), []

    def train(
        steps: int, stream: TaskStream, last: keras.callbacks.Callback, most: int = 0
    ) -> None:
        flops = None
        if not config.lora_rank:  # all weights are trained
            flops = TRAINING * _step_flops(config, classifiers, stream)
        part = config.with_values({"steps": steps, "most_steps": 0})
        own = dataclasses.replace(run, config=part, folder=folder)
        starts.append(fit(own, trainer, stream, [*first, last], label, flops, later, most))

    try:
        with reading_images([*splits, *(split for task in tasks for split in task.tests.values())]):
            if config.most_steps:
                if latest(folder.checkpoints)[1] < length.limit:
                    parts = [cut(split, config.validation_fraction) for split in splits]
                    held_out = [
                        (task.section, task.evaluator, part)
                        for task, (_, part) in zip(tasks, parts, strict=True)
                    ]
                    trainer.change_rate(length.rate())
                    rest = [rest for rest, _ in parts]
                    stream = TaskStream(rest, batches, trial.seed, length.longest)
                    train(length.limit, stream, Measuring(length, held_out), config.most_steps)
                trainer.change_rate(length.rate())
                result |= {"steps": length.steps, "still_improves": length.ended_too_early}
                if length.ended_too_early:
                    say(f"{label}: {TOO_EARLY.format(config.most_steps)}")
            stream = TaskStream(splits, batches, trial.seed, result["steps"])
            train(result["steps"], stream, WeightAverages(result["steps"]))
            result["resumed_from_step"] = starts[0]
            result["divergences"] = divergence.counts(trainer)
            # The last checkpoint is written: training need not be repeated if this fails.
            if result["resumed_from_step"] == result["steps"]:
                folder.logged_from = result["steps"]  # a killed process may have logged it
            result |= evaluate(tasks, folder, trainer.step)
    except Diverged as error:
        if trial.purpose != "sweep":
            raise Diverged(
                f"seed {trial.seed} with learning rate {trial.learning_rate:g} ({error}); finished "
                "trials are kept: run again with a smaller optimizer.learning_rate or grid"
            ) from error
        result["diverged"] = True
    finally:
        seconds = round(time.time() - began, 1)
        folder.write("seconds.txt", f"{seconds}\n")
    result["seconds"] = seconds
    result["time"] = time_shares(before, own_began)
    finish_session(folder, succeeded=not result["diverged"])
    folder.write_json("result.json", result)
    if trial.purpose == "sweep" and workers.is_chief:  # only the result is needed
        tf.io.gfile.rmtree(folder.checkpoints)
    workers.wait()
    gc.collect()  # a Keras model is full of reference cycles
    return result


def _merge_callbacks(config: FineTuning, folder: RunFolder) -> list[keras.callbacks.Callback]:
    """Those that compare the gradients of two tasks, and update and draw the masks, if any."""
    if not isinstance(config, JointTasks):
        return []
    merge = config.merge
    # In the last step of an epoch, so that its row in metrics.csv has the values, too.
    stats = GradientStats(folder, config.steps_per_epoch, config.steps, pictures=False)
    if not merge.has_masks:
        return [stats]
    schedule = merge.mask_update_interval, merge.mask_ratio, merge.mask_ratio_per_update
    return [MaskSchedule(*schedule), MaskPictures(folder), stats]


def _step_flops(
    config: FineTuning, classifiers: Mapping[str, Classifier], stream: TaskStream
) -> float:
    """The operations of a step's forward passes; texts have the mean length of all batches."""
    total = 0.0
    for settings in config.tasks.values():
        network: Any = classifiers[settings.modality]
        of_example = network.backbone, network.num_classes
        if settings.modality == "image":
            flops = image_flops(*of_example, settings.head)
        else:
            length = stream.tokens_per_step / settings.batch
            flops = classified_text_flops(*of_example, length, settings.head)
        total += settings.batch * flops
    return total

"""What is measured without training: the model of a finished run again, and a frozen encoder.

An encoder is probed by simple classifiers on its features, see `inspection.probes`.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vitbert.configs.fine_tuning import FineTuning, dotted
from keras_vitbert.experiments.fine_tuning.evaluation import MEASURES, Evaluator, Split
from keras_vitbert.experiments.fine_tuning.inputs import Inputs
from keras_vitbert.experiments.fine_tuning.predictions import of_section, prediction_rows
from keras_vitbert.experiments.fine_tuning.task_data import TaskData
from keras_vitbert.inspection.probes import NEAREST, RIDGE, Features, probe
from keras_vitbert.model.classifier import classifiers_of
from keras_vitbert.runs.damaged_records import reading_images
from keras_vitbert.runs.identity import config_of
from keras_vitbert.runs.machine import Machine
from keras_vitbert.trained.finding import FINE_TUNED, find
from keras_vitbert.trained.loading import open_source
from keras_vitbert.trained.trained_model import TrainedModel
from keras_vitbert.trained.weight_names import require_finite
from pipelines.command_line import say
from pipelines.files import check_output_file, write_atomically
from pipelines.status import doing
from pipelines.text.casing import case_name, case_of
from pipelines.text_tables import csv_text


def evaluate_saved(
    config: FineTuning, machine: Machine, inputs: Inputs, predictions: str = ""
) -> dict[str, dict[str, float]]:
    """Evaluates the model of a finished run on all splits but that of training, and prints it.

    Of the config, only the evaluation and the columns of tables count; the checkpoint among the
    inputs is the run's folder; `predictions` is a CSV file to write, or "".

    Returns:
        The measures by split, see `evaluation.Predictions.measures`.
    """
    for section in config.tasks if predictions else ():
        check_output_file(of_section(predictions, section), inputs.paths(config.task_names))
    with machine.workers.watched():
        trained, opened = _open_saved(config, machine.strategy, inputs)
        network: Any = trained.network
        classifiers = classifiers_of(network)
        every = {}
        for section, data in opened.items():
            classifier = classifiers[config.tasks[section].modality]
            evaluator = Evaluator(classifier, machine.strategy, config.evaluation_batch)
            with reading_images(data.tests.values()):
                every[section] = answers = evaluator.predict_all(data.tests)
            losses = {name: split.losses for name, split in answers.items()}
            require_finite(losses, f"{inputs.checkpoint}, losses")
    results = {}
    for section, answers in every.items():
        for split, split_answers in answers.items():
            name, measures = dotted(section, split), split_answers.measures()
            results[name] = measures
            names = (*MEASURES, "majority_accuracy")
            shown = "  ".join(f"{name} {measures[name]:.4f}" for name in names)
            task = config.tasks[section].task
            print(f"{task}, {split}, {measures['examples']} examples: {shown}")
        if predictions and machine.workers.is_chief:
            data = opened[section]
            rows = prediction_rows(answers, data.tests, data.classes)
            write_atomically(of_section(predictions, section), csv_text(rows))
    return results


def _open_saved(
    config: FineTuning, strategy: Any, inputs: Inputs
) -> tuple[TrainedModel, dict[str, TaskData]]:
    """The model of a run, and the data in the form that it was trained on, by section."""
    path, task = inputs.checkpoint, config.task_names
    source = find(path)
    own_task = config_of(source.config).task_names if source.kind == FINE_TUNED else ""
    if own_task != task:
        of = f" of task {own_task}" if own_task else ""
        raise ValueError(f"{path}: is {source.kind}{of}, no fine-tuning of task {task}")
    with strategy.scope(), doing(f"opening {path}"):
        trained = open_source(source, dtype=None)
    # Not the run's number of examples: all by default.
    values = {field: config.value(field) for field in ("evaluation_batch", "test_examples")}
    for section, settings in config.tasks.items():
        columns = vars(settings.value("data"))
        values |= {
            dotted(section, f"data.{name}"): value for name, value in columns.items() if value
        }
        if settings.kind == "text":
            case, asked = case_name(trained.lower_case), settings.value("data.case")
            case = case_of(path, trained.vocabulary or [], asked, case)
            values[dotted(section, "data.case")] = case
    opened, own = {}, config_of(trained.record).with_values(values)
    for section, settings in config.tasks.items():
        known = trained.classes_of(settings.modality) or []
        opened[section] = data = inputs.open_data(
            own,
            section,
            trained.vocabulary,
            trained.record["model"]["max_sequence_length"],
            classes=known,
            columns=trained.record.get("columns"),
        )
        for notice in data.notices:
            say(str(notice))
        if data.classes != known:
            raise ValueError(
                f"{path}: was trained on the classes {', '.join(known[:10])}, the data have "
                f"{', '.join(data.classes[:10])}"
            )
    return trained, opened


class FeatureReader(Evaluator):
    """Runs the encoder of a classifier over splits; its head is not used. See `Evaluator`."""

    def predict_step(self, batch: dict[str, Any]) -> tuple[Any, Any]:
        """Index and label of each example, int32 `(examples, 2)`; its features, `(examples, D)`."""
        numbers = ops.stack([batch["numbers"], batch["labels"]], axis=1)
        return numbers, ops.cast(self.network.features(batch)[:, 0], "float32")

    def features(self, split: Split) -> Features:
        """The features of a split, each example once, in the order of the split."""
        numbers, values = self.rows(split)
        require_finite({"features": values}, self.network.name)
        return Features(values, numbers[:, 1])


def run_probe(
    config: FineTuning,
    machine: Machine,
    inputs: Inputs,
    shots: Sequence[int],
    draws: int = 1,
    given: Collection[str] = (),
) -> dict[str, Any]:
    """Measures linear and nearest-neighbour classifiers on the features of a frozen encoder.

    Without `image_size` among the `given` fields, it is the checkpoint's.

    Returns:
        The content of `summary.json`; `splits` is what `probe_splits` returns.
    """
    pretrained, config = inputs.open_checkpoint(config.for_devices(machine.devices))
    if config.kind == "images" and "image_size" not in given:
        config = config.with_values({"image_size": pretrained.model["image_size"]})
    if config.kind == "both":
        raise ValueError(f"task {config.task_names}: probe one task at a time")
    [settings] = config.tasks.values()
    length = pretrained.max_length(settings)
    data = inputs.open_data(config, "", pretrained.vocabulary, length)
    for notice in data.notices:
        say(str(notice))
    keras.utils.set_random_seed(config.seed)  # for the weights that the checkpoint lacks
    with machine.strategy.scope():
        classifier: Any = pretrained.classifier(config, [len(data.classes)])[0]
    reader = FeatureReader(classifier, machine.strategy, config.evaluation_batch)
    with reading_images([data.train, *data.tests.values()]):
        splits = probe_splits(reader, data.train, data.tests, shots, draws, config.seed)
    return {
        "task": config.task_names,
        "checkpoint": pretrained.name,
        "checkpoint_step": pretrained.step,
        "training_examples": data.train.count,
        "examples": {name: split.count for name, split in data.tests.items()},
        "splits": splits,
    }


def probe_splits(
    reader: FeatureReader,
    train: Split,
    tests: dict[str, Split],
    shots: Iterable[int],
    draws: int,
    seed: int,
) -> dict[str, dict[int, dict[str, list[float]]]]:
    """Probes an encoder on splits by name, with `shots` examples of each class; 0 for all.

    A few examples are drawn `draws` times, each time with its own seed from `seed` up; all, once.
    Shots that no class has are left out, and reported.

    Returns:
        By split, number of shots, and `ridge` or `neighbours`: the accuracy of each draw.
    """
    with doing(f"features of {train.count:,} training examples"):
        known = reader.features(train)
    most = int(np.bincount(known.labels).max())
    for count in shots:
        if count > most:
            say(f"shots={count}: left out, as no class has more than {most} training examples")
    shots = [count for count in shots if count <= most]
    if not shots:
        raise ValueError(f"shots: no class has so many training examples; give at most {most}")
    results = {}
    for name, split in tests.items():
        with doing(f"features of {name} ({split.count:,} examples)"):
            asked = reader.features(split)
        results[name] = {}
        for count in shots:
            with doing(f"probing {name} with {count or 'all'} examples of each class"):
                seeds = range(seed, seed + (draws if count else 1))
                every = [probe(known.shots(count, one), asked) for one in seeds]
            results[name][count] = {
                kind: [accuracies[kind] for accuracies in every] for kind in (RIDGE, NEAREST)
            }
    return results

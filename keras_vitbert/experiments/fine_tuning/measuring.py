"""What is measured without training: the model of a finished run again, and a frozen encoder.

An encoder is probed by simple classifiers on its features, see `inspection.probes`.
"""

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vitbert.configs.fine_tuning import FineTuning
from keras_vitbert.experiments.fine_tuning.evaluation import MEASURES, Evaluator, Split
from keras_vitbert.experiments.fine_tuning.inputs import Inputs
from keras_vitbert.experiments.fine_tuning.predictions import prediction_rows
from keras_vitbert.inspection.probes import NEAREST, RIDGE, Features, probe
from keras_vitbert.runs.damaged_records import reading_images
from keras_vitbert.runs.identity import config_of
from keras_vitbert.runs.machine import Machine
from keras_vitbert.trained.finding import FINE_TUNED, find
from keras_vitbert.trained.loading import open_source
from keras_vitbert.trained.weight_names import require_finite
from pipelines.command_line import say
from pipelines.files import check_output_file, write_atomically
from pipelines.status import doing
from pipelines.text.casing import case_name, case_of
from pipelines.text_tables import csv_text


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """The model of a finished run beside data to evaluate it on."""

    config: FineTuning  # only its evaluation and its columns of tables count
    machine: Machine
    inputs: Inputs  # the checkpoint is the run's folder
    predictions: str = ""  # a CSV file to write all predictions to; "" for none

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Evaluates all splits but that of training, and prints the measures of each.

        Returns:
            The measures by split, see `evaluation.Predictions.measures`.

        Raises:
            ValueError: there is no such run, the classes of the data differ, or the file of
                predictions is one of the inputs.
        """
        if self.predictions:
            check_output_file(self.predictions, self.inputs.paths(self.config.task))
        with self.machine.workers.watched():
            return self._evaluate()

    def _evaluate(self):
        given, path, strategy = self.config, self.inputs.checkpoint, self.machine.strategy
        source = find(path)
        task = source.config["experiment"]["task"] if source.kind == FINE_TUNED else ""
        if task != given.task:
            of = f" of task {task}" if task else ""
            raise ValueError(f"{path}: is {source.kind}{of}, no fine-tuning of task {given.task}")
        with strategy.scope(), doing(f"opening {path}"):
            trained = open_source(source, dtype=None)
        # Not the run's number of examples: all by default.
        values = {field: given.value(field) for field in ("evaluation_batch", "test_examples")}
        values |= {f"data.{name}": value for name, value in vars(given.data).items() if value}
        if given.kind == "text":
            case = case_name(trained.lower_case)
            values["data.case"] = case_of(path, trained.vocabulary, given.data.case, case)
        data = self.inputs.open(
            config_of(trained.record).with_values(values),
            trained.vocabulary,
            trained.record["model"]["max_sequence_length"],
            classes=trained.classes,
            columns=trained.record.get("columns"),
        )
        if data.classes != trained.classes:
            raise ValueError(
                f"{path}: was trained on the classes {', '.join(trained.classes[:10])}, the data "
                f"have {', '.join(data.classes[:10])}"
            )
        evaluator = Evaluator(trained.network, strategy, given.evaluation_batch)
        with reading_images(data.tests.values()):
            found = evaluator.predict_all(data.tests)
        require_finite({name: one.losses for name, one in found.items()}, f"{path}, losses")
        results = {name: one.measures() for name, one in found.items()}
        for split, measures in results.items():
            shown = (
                f"{measure} {measures[measure]:.4f}" for measure in (*MEASURES, "majority_accuracy")
            )
            print(f"{task}, {split}, {measures['examples']} examples: {'  '.join(shown)}")
        if self.predictions and self.machine.workers.is_chief:
            rows = prediction_rows(found, data.tests, data.classes)
            write_atomically(self.predictions, csv_text(rows))
        return results


class FeatureReader(Evaluator):
    """Runs the encoder of a classifier over splits; its head is not used. See `Evaluator`."""

    def predict_step(self, batch: dict[str, Any]) -> tuple[Any, Any]:
        """The step of one replica.

        Args:
            batch: see `Evaluator.predict_step`.

        Returns:
            (int32 `(examples, 2)`, the index and label of each example; float32 `(examples, D)`,
            its features).
        """
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

    Args:
        config: of the task.
        shots, draws: see `probe_splits`.
        given: fields that somebody set; without `image_size`, it is the checkpoint's.

    Returns:
        The content of `summary.json`; `splits` is what `probe_splits` returns.

    Raises:
        ValueError: the checkpoint or the data are missing, damaged or do not fit.
    """
    pretrained, config = inputs.pretrained(config.for_devices(machine.devices))
    if config.kind == "images" and "image_size" not in given:
        config = config.with_values({"image_size": pretrained.model["image_size"]})
    data = inputs.open(config, pretrained.vocabulary, pretrained.max_length(config))
    keras.utils.set_random_seed(config.seed)  # for the weights that the checkpoint lacks
    with machine.strategy.scope():
        classifier, _ = pretrained.classifier(config, len(data.classes))
    reader = FeatureReader(classifier, machine.strategy, config.evaluation_batch)
    with reading_images([data.train, *data.tests.values()]):
        found = probe_splits(reader, data.train, data.tests, shots, draws, config.seed)
    return {
        "task": config.task,
        "checkpoint": pretrained.name,
        "checkpoint_step": pretrained.step,
        "training_examples": data.train.count,
        "examples": {name: split.count for name, split in data.tests.items()},
        "splits": found,
    }


def probe_splits(
    reader: FeatureReader,
    train: Split,
    tests: dict[str, Split],
    shots: Iterable[int],
    draws: int,
    seed: int,
) -> dict[str, dict[int, dict[str, list[float]]]]:
    """Probes an encoder on splits.

    Args:
        reader: of the encoder.
        train: the training split.
        tests: splits by name.
        shots: examples of each class to learn from; 0 for all.
        draws: how many times a few examples are drawn, each with its own seed.
        seed: of the first draw.

    Returns:
        By split, number of shots, and `ridge` or `neighbours`: the accuracy of each draw. With all
        examples, there is one draw. Shots that no class has are left out, and reported.

    Raises:
        ValueError: all of them are, or a feature is not finite.
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
    found = {}
    for name, split in tests.items():
        with doing(f"features of {name} ({split.count:,} examples)"):
            asked = reader.features(split)
        found[name] = {}
        for count in shots:
            with doing(f"probing {name} with {count or 'all'} examples of each class"):
                seeds = range(seed, seed + (draws if count else 1))
                every = [probe(known.shots(count, one), asked) for one in seeds]
            found[name][count] = {
                kind: [accuracies[kind] for accuracies in every] for kind in (RIDGE, NEAREST)
            }
    return found

"""The model of a finished fine-tuned run, evaluated again on the same or on other data."""

import dataclasses

from keras_vitbert.configs.fine_tuning import FineTuning
from keras_vitbert.experiments.fine_tuning import metrics
from keras_vitbert.experiments.fine_tuning.evaluation import Evaluator
from keras_vitbert.experiments.fine_tuning.inputs import Inputs
from keras_vitbert.experiments.fine_tuning.prediction_files import prediction_rows
from keras_vitbert.runs.identity import config_of
from keras_vitbert.runs.machine import Machine
from keras_vitbert.runs.record_errors import reading_images
from keras_vitbert.trained.finding import FINE_TUNED, find
from keras_vitbert.trained.loading import open_source
from keras_vitbert.trained.weight_names import require_finite
from pipelines.files import write_atomically
from pipelines.status import doing
from pipelines.text.casing import case_name, case_of
from pipelines.text_tables import csv_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavedModel:
    """A fine-tuned run's model beside data to evaluate it on."""

    given: FineTuning  # only its evaluation and its columns of tables count
    machine: Machine
    inputs: Inputs  # the checkpoint is the run's folder
    predictions: str = ""  # a CSV file to write; "" for none

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Evaluates all splits but that of training, and prints the measures of each.

        Returns:
            The measures by split, see `evaluation.Predictions.measures`.

        Raises:
            ValueError: there is no such run, or the classes of the data differ.
        """
        with self.machine.workers.watched():
            return self._evaluate()

    def _evaluate(self):
        path, strategy = self.inputs.checkpoint, self.machine.strategy
        source = find(path)
        if source.kind != FINE_TUNED:
            raise ValueError(f"{path}: is {source.kind}, no finished run of fine-tuning")
        with strategy.scope(), doing(f"opening {path}"):
            trained = open_source(source, dtype=None)
        config = self._config(trained)
        with doing("opening the data"):
            data = self.inputs.open(
                config,
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
        evaluator = Evaluator(trained.network, strategy, config.evaluation_batch)
        with reading_images(data.tests.values()):
            found = evaluator.predict_all(data.tests)
        require_finite({name: one.losses for name, one in found.items()}, f"{path}, losses")
        results = {name: one.measures() for name, one in found.items()}
        for name, measures in results.items():
            names = (*metrics.METRICS, *metrics.OF_PROBABILITIES, "majority_accuracy")
            text = "  ".join(f"{measure} {measures[measure]:.4f}" for measure in names)
            print(f"{config.task}, {name}, {measures['examples']} examples: {text}")
        if self.predictions and self.machine.workers.is_chief:
            write_atomically(
                self.predictions, csv_text(prediction_rows(found, data.tests, data.classes))
            )
        return results

    def _config(self, trained):
        """The run's config, but for what was given for the evaluation."""
        given, config = self.given, config_of(trained.record)
        if config.task != given.task:
            raise ValueError(f"{trained.path}: is a run of task {config.task}, not {given.task}")
        # Not the run's number of examples: all by default.
        values = {field: given.value(field) for field in ("evaluation_batch", "test_examples")}
        values |= {f"data.{name}": value for name, value in vars(given.data).items() if value}
        if given.kind == "text":
            case = case_name(trained.lower_case)
            values["data.case"] = case_of(trained.path, trained.vocabulary, given.data.case, case)
        return config.with_values(values)

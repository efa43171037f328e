"""What a fine-tuning, an evaluation or a probe reads: a checkpoint, and the data of a task."""

import dataclasses
from typing import Any

from keras_vitbert.configs.fine_tuning import FineTuning
from keras_vitbert.experiments.fine_tuning.evaluation import MEASURES, Evaluator
from keras_vitbert.experiments.fine_tuning.predictions import prediction_rows
from keras_vitbert.experiments.fine_tuning.pretrained import Pretrained, open_pretrained
from keras_vitbert.experiments.fine_tuning.task_data import TaskData, open_task
from keras_vitbert.experiments.fine_tuning.tasks import find_task
from keras_vitbert.runs.identity import config_of
from keras_vitbert.runs.machine import Machine
from keras_vitbert.runs.record_errors import reading_images
from keras_vitbert.trained.finding import FINE_TUNED, find
from keras_vitbert.trained.loading import open_source
from keras_vitbert.trained.weight_names import require_finite
from pipelines.files import check_output_file, write_atomically
from pipelines.status import doing
from pipelines.tasks import own_data
from pipelines.text.casing import case_name, case_of
from pipelines.text_tables import csv_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """Names of what is read."""

    checkpoint: str  # what `keras_vitbert.load` takes, or `rand`
    architecture: str = ""  # of `rand`, see `open_pretrained`
    vocabulary: str = ""  # a file, for text if the checkpoint has none
    data_dir: str = ""  # own data, or TFDS' data folder
    files: dict[str, str] = dataclasses.field(default_factory=dict)  # paths by split
    download: bool = False  # whether TFDS may fetch missing data
    skip_damaged: int = 0  # rows of tables that may be left out

    def paths(self, task: str) -> list[str]:
        """Everything that is read, for outputs that must not be one of them."""
        named = [self.checkpoint, self.architecture, self.vocabulary, *self.files.values()]
        if find_task(task).tfds:
            return [*named, self.data_dir]
        for place in own_data.find_splits(self.data_dir, self.files).values():
            # Those of records are patterns; a folder of tables holds other files, too.
            named += [self.data_dir] if place.form == own_data.RECORDS else place.paths
        return named

    def pretrained(self, config: FineTuning) -> tuple[Pretrained, FineTuning]:
        """Opens the checkpoint; the config gets the case of its texts."""
        with doing(f"opening {self.checkpoint}"):
            opened = open_pretrained(
                self.checkpoint, self.architecture, self.vocabulary, config.kind
            )
        if config.kind == "text":
            where, asked = self.vocabulary or self.checkpoint, config.value("data.case")
            case = case_of(where, opened.vocabulary, asked, opened.case)
            config = config.with_values({"data.case": case})
        return opened, config

    def open(
        self, config: FineTuning, vocabulary: list[str] | None, max_length: int, **options: Any
    ) -> TaskData:
        """Opens the data; `options` are further arguments of `open_task`."""
        with doing("opening the data"):
            return open_task(
                *(find_task(config.task), config, vocabulary, max_length),
                data_dir=self.data_dir,
                download=self.download,
                skip_damaged=self.skip_damaged,
                files=self.files,
                **options,
            )


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """The model of a finished run beside data to evaluate it on."""

    # Of the run's task, with changes of its evaluation and of the columns of its data.
    config: FineTuning
    machine: Machine
    inputs: Inputs  # the checkpoint is the run's folder
    predictions: str = ""  # a CSV file to write all predictions to; "" for none

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Evaluates all splits but that of training, and prints the measures of each.

        Returns:
            The measures by split, see `evaluation.Predictions.measures`.

        Raises:
            ValueError: there is no such run, another field of the config is changed, the classes of
                the data differ, or the file of predictions is one of the inputs.
        """
        for field in self.config.changed():
            if field not in ("evaluation_batch", "test_examples") and not field.startswith("data."):
                raise ValueError(f"{field}: has no effect on an evaluation, which uses the run's")
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

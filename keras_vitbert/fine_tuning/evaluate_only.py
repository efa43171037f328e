"""Evaluates the model of a fine-tuned run again, without training."""

from keras_vitbert.fine_tuning import evaluation, metrics
from keras_vitbert.fine_tuning.prediction_files import prediction_rows
from keras_vitbert.runs.identity import config_of
from keras_vitbert.runs.record_errors import reading_images
from keras_vitbert.trained.finding import FINE_TUNED, find
from keras_vitbert.trained.loading import open_source
from keras_vitbert.trained.weight_names import require_finite
from pipelines.files import write_atomically
from pipelines.status import doing
from pipelines.text.casing import case_name, case_of
from pipelines.text_tables import csv_text


def evaluate_saved(path, given, open_data, strategy, predictions_file=""):
    """Evaluates the model of a fine-tuned run on all test splits, and prints the measures.

    Args:
        path: str, the run's folder.
        given: `FineTuning` of the run's task, of which `evaluation_batch`, `test_examples` and the
            column names of tables count.
        open_data: function of (config, vocabulary, max_length, classes) that returns a `TaskData`.
        strategy: see `tpu.strategy.get_strategy`.
        predictions_file: str, a CSV file to write; none if empty.

    Returns:
        dict of a split's name to its measures.

    Raises:
        ValueError: there is no such run, or the classes of the data differ.
    """
    source, task_name = find(path), given.task
    if source.kind != FINE_TUNED:
        raise ValueError(
            f"{path} holds no finished run of keras_vitbert.finetune; give the folder of one"
        )
    with strategy.scope(), doing(f"opening {path}"):
        trained = open_source(source, dtype=None)
    record = trained.record
    config = config_of(record)
    if config.task != task_name:
        raise ValueError(f"{path} is a run of task {config.task}, not {task_name}")
    # Not the run's number of examples: all by default.
    values = {f: given.value(f) for f in ("evaluation_batch", "test_examples")}
    values |= {f"data.{name}": value for name, value in vars(given.data).items() if value}
    if given.kind == "text":
        case = case_name(trained.lower_case)
        values["data.case"] = case_of(path, trained.vocabulary, given.data.case, case)
    config = config.with_values(values)
    max_length = record["model"]["max_sequence_length"]
    with doing("opening the data"):
        data = open_data(
            *(config, trained.vocabulary, max_length),
            classes=trained.classes,
            columns=record.get("columns"),
        )
    if data.classes != trained.classes:
        raise ValueError(
            f"{path} was trained on the classes {', '.join(trained.classes[:10])}, the data have "
            f"{', '.join(data.classes[:10])}; give the data of that task"
        )
    evaluator = evaluation.Evaluator(trained.network, strategy, config.evaluation_batch)
    with reading_images(data.tests.values()):
        predictions = evaluator.predict_all(data.tests)
    require_finite({name: found.losses for name, found in predictions.items()}, f"{path}, losses")
    results = {name: found.measures() for name, found in predictions.items()}
    for name, measures in results.items():
        names = (*metrics.METRICS, *metrics.OF_PROBABILITIES, "majority_accuracy")
        text = "  ".join(f"{measure} {measures[measure]:.4f}" for measure in names)
        print(f"{task_name}, {name}, {measures['examples']} examples: {text}")
    if predictions_file:
        rows = prediction_rows(predictions, data.tests, data.classes)
        write_atomically(predictions_file, csv_text(rows))
    return results

"""Fine-tuned classifiers back from the folders of their runs."""

import os

from ml_collections import config_dict

from keras_vitbert.fine_tuning import evaluation
from keras_vitbert.model.classifier import build_classifier
from keras_vitbert.runs import checkpoints
from keras_vitbert.runs.record_errors import reading_images
from keras_vitbert.runs.run_folder import RunFolder, csv_text
from pipelines.command_line import UserError
from pipelines.files import write_atomically
from pipelines.text.wordpiece import read_vocabulary


def load_classifier(path, dtype=None):
    """The model of a fine-tuned run: that of the seed with the median result.

    Args:
        path: str, a folder that `finetune` wrote.
        dtype: a Keras dtype policy to run it in; its own if None.

    Returns:
        (`Classifier`, dict of the run: the content of config.json, and `classes`, a list of str).

    Raises:
        UserError: there is no finished run of `finetune`.
    """
    folder = RunFolder(path)
    record, summary, classes = folder.record(), folder.summary(), folder.read("classes.txt")
    if record is None or summary is None or "task" not in record or classes is None:
        raise UserError(
            f"{path} holds no finished run of keras_vitbert.finetune; give the folder of one"
        )
    config = record["config"]
    classes = classes.splitlines()
    classifier = build_classifier(
        record["model"], record["kind"], len(classes), dtype or config["dtype"]
    )
    if config["lora_rank"]:
        classifier.enable_lora(config["lora_rank"])
    checkpoint, _ = checkpoints.latest(os.path.join(path, summary["model"], "checkpoints"))
    if checkpoint is None:
        raise UserError(f"{path}/{summary['model']}: its checkpoint is gone; fine-tune again")
    checkpoints.restore_network(checkpoint, classifier)
    return classifier, {**record, "classes": classes}


def evaluate_saved(path, task_name, given, open_data, strategy, predictions_file=""):
    """Evaluates the model of a fine-tuned run on all test splits, and prints the measures.

    Args:
        path: str, the run's folder.
        task_name: str, which must be that of the run.
        given: `ConfigDict`, of the command line: how many examples are evaluated at once, and what
            the columns of TSV files are called.
        open_data: function of (config, vocabulary, max_length) that returns a `TaskData`.
        strategy: `tf.distribute.Strategy`.
        predictions_file: str, a CSV file to write; none if empty.

    Returns:
        dict of a split's name to its measures.

    Raises:
        UserError: there is no such run, or the data are of other classes.
    """
    with strategy.scope():
        classifier, record = load_classifier(path)
    if record["task"] != task_name:
        raise UserError(f"{path} is a run of --task={record['task']}, not {task_name}; give that")
    config = config_dict.ConfigDict(record["config"])
    config.evaluation_batch = given.evaluation_batch
    if record["kind"] == "text":
        for key, value in given.data.items():
            config.data[key] = value or config.data[key]
    vocabulary = None
    if record["kind"] == "text":
        vocabulary = read_vocabulary(os.path.join(path, "vocabulary.txt"))
    data = open_data(config, vocabulary, record["model"]["max_sequence_length"])
    if data.classes != record["classes"]:
        raise UserError(
            f"{path} was trained on the classes {', '.join(record['classes'][:10])}, the data have "
            f"{', '.join(data.classes[:10])}; give the data of that task"
        )
    evaluator = evaluation.Evaluator(classifier, strategy, config.evaluation_batch)
    results, rows = {}, []
    for name, split in data.tests.items():
        with reading_images([split]):
            predictions = evaluator.predict(split)
        results[name] = {"examples": split.count, **predictions.measures()}
        rows += evaluation.prediction_rows(name, predictions, data.classes)
        text = "  ".join(
            f"{measure} {value:.4f}"
            for measure, value in results[name].items()
            if measure != "examples"
        )
        print(f"{task_name}, {name}, {split.count} examples: {text}")
    if predictions_file:
        write_atomically(predictions_file, csv_text(rows))
    return results

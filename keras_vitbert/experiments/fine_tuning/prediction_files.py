r"""Files of predictions: one row per example, for a spreadsheet or pandas.

| column | |
| --- | --- |
| `split` | |
| `path`; `line` or `row`; `record` | the file; the row of a table; a record, as FILE:PLACE |
| `text`, `text_pair` | texts |
| `label`, `prediction` | names of classes |
| `probability_CLASS` | one column per class, if there are at most 20 |
| `top_1`, `probability_1`, ... | otherwise the five most probable classes |

The rows of a split are in the natural order of their files and lines: `9.jpg` precedes `10.jpg`.
Bytes of a file's name that are not UTF-8 are escaped: `caf\xe9.jpg`.
"""

import csv
import hashlib
import os

from keras_vitbert.runs.run_folder import RunFolder
from pipelines.files import natural, printable, write_atomically
from pipelines.tasks.labelled_images import LabelledImages
from pipelines.text_tables import csv_reader, csv_text

FILE = "predictions.csv"


def described(split):
    """What identifies each example of a split: list of dicts of str, see above.

    Args:
        split: `LabelledImages` or `LabelledTexts`.
    """
    examples = list(split.descriptions())
    if isinstance(split, LabelledImages):
        return [{key: printable(name) for key, name in about.items()} for about in examples]
    return examples


def prediction_rows(predictions, splits, classes):
    """The rows of a file of predictions.

    Args:
        predictions: dict of a split's name to `evaluation.Predictions`.
        splits: dict of the same names to `LabelledImages` or `LabelledTexts`.
        classes: list of str.

    Returns:
        list of dict of a column to its value.
    """
    rows = []
    for name, found in predictions.items():
        examples = described(splits[name])
        order = range(len(examples))
        if {"path", "line", "row"} & set(examples[0]):
            order = sorted(order, key=lambda index: natural(next(iter(examples[index].values()))))
        every = found.probabilities
        for index in order:
            row = {
                "split": name,
                **examples[index],
                "label": classes[found.labels[index]],
                "prediction": classes[found.predictions[index]],
            }
            if every is not None:
                for label, probability in zip(classes, every[index], strict=True):
                    row[f"probability_{label}"] = f"{probability:.6g}"
            else:
                pairs = zip(found.ranked[index], found.ranked_probabilities[index], strict=True)
                for rank, (label, probability) in enumerate(pairs, 1):
                    row[f"top_{rank}"] = classes[label]
                    row[f"probability_{rank}"] = f"{probability:.6g}"
            rows.append(row)
    return rows


def collect(path, output_dir, summary):
    """Writes the predictions of the reported trials into one file, with a column `seed`.

    Args:
        path: str, the CSV file that is written.
        output_dir: str, the run's folder.
        summary: dict, of `keras_vitbert.experiments.fine_tuning.search.fine_tune`.

    Raises:
        ValueError: the predictions of a trial are damaged.
    """
    rows = []
    for trial, seed in zip(summary["trials"], summary["seeds"], strict=True):
        folder = RunFolder(os.path.join(output_dir, trial))
        own = folder.read(FILE) or ""
        if hashlib.sha256(own.encode()).hexdigest() != folder.result()["predictions_sha256"]:
            raise ValueError(
                f"{folder.path}/{FILE} is not what the trial has written; remove its result.json "
                "to evaluate it again"
            )
        rows += [{"seed": seed, **row} for row in csv_reader(own, csv.DictReader)]
    write_atomically(path, csv_text(rows))

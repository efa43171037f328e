"""What Figure 6 reads from runs of `finetune`: the predictions that they left, and their images."""

import csv
import functools
import os

import numpy as np

from keras_vitbert.experiments.fine_tuning.predictions import FILE
from keras_vitbert.experiments.fine_tuning.task_data import open_task
from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from keras_vitbert.extras.paper_figures.qualitative_values import (
    TOP,
    Answer,
    ImageExample,
    TextExample,
)
from keras_vitbert.inspection.drawing import spread
from keras_vitbert.runs.identity import config_of
from keras_vitbert.runs.run_folder import RunFolder
from pipelines.text_tables import csv_reader

_PLACES = ("path", "line", "row", "record")  # columns that name an example
_TEXTS = ("text", "text_pair")
_WORDS = 60  # of a text on the page


class FineTunedRun:
    """The folder of a finished run of `finetune`.

    Args:
        path: local or `gs://`.
        images: the folder of the task's data, which holds its images; empty for that of TFDS.

    Attributes:
        record, summary: the contents of `config.json` and `summary.json`.
        rows: list of dict of str, its predictions for the split that it reports.

    Raises:
        ValueError: it is not finished, or has left no predictions.
    """

    def __init__(self, path: str, images: str = ""):
        self.path, self.images = path, images
        folder = RunFolder(path, writes=False)
        self.record, self.summary = folder.record(), folder.summary()
        if self.summary is None:
            raise ValueError(f"{path}: this fine-tuning is not finished; run it again")
        model = RunFolder(os.path.join(path, self.summary["model"]), writes=False)
        rows = csv_reader(model.read(FILE) or "", csv.DictReader)
        self.rows = [row for row in rows if row.get("split") == self.summary["split"]]
        if not self.rows:
            split = self.summary["split"]
            raise ValueError(f"{model.path}/{FILE}: has no predictions of {split}")

    @property
    def kind(self) -> str:
        """What is classified: `images` or `text`."""
        return self.record["experiment"]["kind"]

    @property
    def sees(self) -> tuple:
        """What must be equal for runs to be shown side by side: the task's examples."""
        split = self.summary["split"]
        return self.kind, split, self.record["inputs"][split]

    def answers(self, row: dict[str, str]) -> list[Answer]:
        """The likeliest classes of an example, the likeliest first."""
        if "top_1" in row:
            pairs = [
                (row[f"top_{rank}"], row[f"probability_{rank}"])
                for rank in range(1, TOP + 1)
                if row.get(f"top_{rank}")
            ]
        else:
            begin = "probability_"
            pairs = [(c.removeprefix(begin), row[c]) for c in row if c.startswith(begin)]
        answers = [Answer(name, float(value), name == row["label"]) for name, value in pairs]
        return sorted(answers, key=lambda answer: -answer.probability)[:TOP]

    def image(self, row: dict[str, str]) -> np.ndarray:
        """The image of a row of predictions as the network sees it: uint8 `(size, size, 3)`.

        Raises:
            ValueError: the data hold no such image, or several of its name.
        """
        names = list(self._split.descriptions())
        wanted = {key: row.get(key) for key in names[0]}
        places = [number for number, about in enumerate(names) if about == wanted]
        if len(places) != 1:
            raise ValueError(f"{self.images}: has no single image {next(iter(wanted.values()))}")
        part = self._split.part([(places[0], places[0] + 1)])
        return next(iter(part.evaluation(1)))["images"].numpy()[0]

    @functools.cached_property
    def _split(self):
        config = config_of(self.record)
        data = open_task(TASKS[config.task], config, None, 0, self.images)
        return data.tests[self.summary["split"]]


def examples_of(runs: dict[str, FineTunedRun], wanted: int) -> list[ImageExample | TextExample]:
    """Evenly spread examples of a task, at most `wanted`, and what fine-tuned runs predict.

    Raises:
        ValueError: runs have predictions for other examples.
    """
    first = next(iter(runs.values()))
    numbers = spread(range(len(first.rows)), wanted)
    for name, run in runs.items():
        same = len(run.rows) == len(first.rows)
        if not same or any(_key(run.rows[n]) != _key(first.rows[n]) for n in numbers):
            raise ValueError(f"{name}: its predictions are not of the examples of the other runs")
    found = []
    for number in numbers:
        row = first.rows[number]
        answers = {name: run.answers(run.rows[number]) for name, run in runs.items()}
        if first.kind == "images":
            found.append(ImageExample(number, first.image(row), row["label"], answers))
            continue
        words = " | ".join(row[column] for column in _TEXTS if row.get(column)).split()
        words = words[:_WORDS] + ["…"] * (len(words) > _WORDS)
        each = {name: [found] for name, found in answers.items()}
        found.append(TextExample(number, [(w, 0) for w in words], [row["label"]], each, "class"))
    return found


def _key(row):
    """What distinguishes an example from the others."""
    return [row.get(column) for column in (*_PLACES, *_TEXTS, "label")]

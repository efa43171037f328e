"""What Figure 6 reads from runs of `finetune`: the predictions that they left, and their images."""

import csv
import functools
import os

from keras_vitbert.fine_tuning.prediction_files import FILE
from keras_vitbert.fine_tuning.tasks import TASKS
from keras_vitbert.inspection.drawing import spread
from keras_vitbert.paper_figures.fine_tuned_images import FineTunedImages
from keras_vitbert.paper_figures.qualitative_values import TOP, Answer, ImageExample, TextExample
from keras_vitbert.runs.run_folder import RunFolder
from pipelines.images.image_decoding import central_crop
from pipelines.text_tables import csv_reader

_PLACES = ("path", "line", "row", "record")  # columns that name an example
_TEXTS = ("text", "text_pair")
_PIXELS = 96  # of an image on the page
_WORDS = 60  # of a text on the page


class FineTunedRun:
    """The folder of a finished run of `finetune`.

    Args:
        path: str, local or `gs://`.
        images: str, the folder of the task's data, which holds its images; empty for that of TFDS.

    Attributes:
        path: str.
        record, summary: dict, the contents of `config.json` and `summary.json`.
        images: str.
        rows: list of dict of str, its predictions for the split that it reports.

    Raises:
        ValueError: it is not finished, or has left no predictions.
    """

    def __init__(self, path, images=""):
        self.path, self.images = path, images
        folder = RunFolder(path, writes=False)
        self.record, self.summary = folder.record(), folder.summary()
        if self.summary is None:
            raise ValueError(f"{path}: this fine-tuning is not finished; run it again")
        self.rows = self._read_predictions()

    @property
    def kind(self):
        """str, what is classified: `images` or `text`."""
        return self.record["experiment"]["kind"]

    @property
    def sees(self):
        """What must be equal for runs to be shown side by side: the task's examples."""
        split = self.summary["split"]
        return self.kind, split, self.record["inputs"][split]

    def _read_predictions(self):
        folder = RunFolder(os.path.join(self.path, self.summary["model"]), writes=False)
        text = folder.read(FILE) or ""
        rows = [
            row
            for row in csv_reader(text, csv.DictReader)
            if row.get("split") == self.summary["split"]
        ]
        if not rows:
            raise ValueError(f"{folder.path}/{FILE}: has no predictions of {self.summary['split']}")
        return rows

    def answers(self, row):
        """The likeliest classes of an example, the likeliest first: list of `Answer`."""
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

    def image(self, row):
        """The middle square of an example's image: uint8 `(_PIXELS, _PIXELS, 3)`."""
        return central_crop(self._images.read(row), _PIXELS, 1.0).numpy()

    @functools.cached_property
    def _images(self):
        data = self.record["experiment"]["data"]
        columns = [data.get(name, "") for name in ("image_column", "label_column")]
        task = TASKS[self.record["experiment"]["task"]]
        return FineTunedImages(task, self.summary["split"], self.images, columns)


def examples_of(runs, wanted):
    """Examples of a task and what fine-tuned runs predict for them.

    Args:
        runs: dict of a name to a `FineTunedRun`, all of which see the same.
        wanted: int, how many at most, evenly spread.

    Returns:
        list of `ImageExample` or of `TextExample`.

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

"""Predictions for every example of a split, each exactly once, on any number of replicas."""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_vitbert.fine_tuning import metrics
from keras_vitbert.inspection.sheet import colours
from keras_vitbert.runs.callbacks import tensorboard_tag
from keras_vitbert.training.losses import cross_entropy
from pipelines.files import markdown_row
from pipelines.status import counted

# Of more classes than these only the most probable are kept: memory stays a few numbers an example.
_ALL_CLASSES, _TOP_CLASSES = 20, 5


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """A classifier's predictions for a split, in the order of the split.

    Attributes:
        labels: int32 array `(examples,)`.
        losses: float32 array `(examples,)`, `-log` of the probability of the label.
        ranked: int32 array `(examples, kept)`, the most probable classes, the first one first: all
            of up to 20 classes, otherwise five.
        ranked_probabilities: float32 array `(examples, kept)`, their probabilities.
        num_classes: int.
    """

    labels: np.ndarray
    losses: np.ndarray
    ranked: np.ndarray
    ranked_probabilities: np.ndarray
    num_classes: int

    @property
    def predictions(self):
        """The most probable class: int32 array `(examples,)`."""
        return self.ranked[:, 0]

    @property
    def probabilities(self):
        """Of every class: float32 array `(examples, num_classes)`; None if not all are kept."""
        if self.ranked.shape[1] < self.num_classes:
            return None
        in_order = np.empty_like(self.ranked_probabilities)
        np.put_along_axis(in_order, self.ranked, self.ranked_probabilities, axis=1)
        return in_order

    @property
    def label_probabilities(self):
        """Of each example's label: float32 array `(examples,)`."""
        return np.exp(-self.losses)

    @property
    def confusion(self):
        """See `metrics.confusion_matrix`."""
        return metrics.confusion_matrix(self.labels, self.predictions, self.num_classes)

    def measures(self):
        """What `metrics.measures` says, `log_loss` and `ece`: dict of name to number.

        `log_loss` is the mean of `losses`; `ece` see `metrics.calibration_error`.
        """
        right = self.predictions == self.labels
        return {
            **metrics.measures(self.confusion),
            "log_loss": float(self.losses.mean(dtype=np.float64)),
            "ece": metrics.calibration_error(right, self.ranked_probabilities[:, 0]),
        }


class Evaluator:
    """Runs a classifier over splits; its step is traced once for splits of one kind.

    Args:
        network: `Classifier`.
        strategy: `tf.distribute.Strategy` that it was made under.
        batch: int, examples a step over all replicas; rounded up to a multiple of their number.
    """

    def __init__(self, network, strategy, batch):
        self.network = network
        self.strategy = strategy
        replicas = strategy.num_replicas_in_sync
        self.batch = -(-batch // replicas) * replicas
        self._steps = {}

    def _step(self, spec):
        """The compiled step for batches of a spec: other lengths need no other trace."""

        def step(batch):
            found = self.strategy.run(self.predict_step, args=(batch,))
            return {name: self.strategy.gather(rows, axis=0) for name, rows in found.items()}

        key = repr(spec)
        if key not in self._steps:
            self._steps[key] = tf.function(step, input_signature=(spec,), autograph=False)
        return self._steps[key]

    def predict_step(self, batch):
        """The step of one replica.

        Args:
            batch: dict of a replica's inputs, and of `numbers` and `labels`, int32 `(examples,)`.

        Returns:
            dict of `integers`, int32 `(examples, 2 + kept)`: the index and label of each example
            and its most probable classes; and `floats`, float32 `(examples, 1 + kept)`: its loss
            and the probabilities of these classes.
        """
        logits = tf.cast(self.network(batch, training=False), tf.float32)
        classes = self.network.num_classes
        kept = classes if classes <= _ALL_CLASSES else _TOP_CLASSES
        # Of logits: two that are not equal may have equal probabilities.
        ranked = tf.math.top_k(logits, kept).indices
        probabilities = tf.gather(tf.nn.softmax(logits), ranked, batch_dims=1)
        losses = cross_entropy(batch["labels"], logits)
        numbers = tf.stack([batch["numbers"], batch["labels"]], axis=1)
        return {
            "integers": tf.concat([numbers, ranked], axis=1),
            "floats": tf.concat([losses[:, None], probabilities], axis=1),
        }

    def predict(self, split):
        """Predicts the classes of a split, with their probabilities.

        Args:
            split: `LabelledImages` or `LabelledTexts`.

        Returns:
            `Predictions`.

        Raises:
            RuntimeError: an example was missed, or seen twice.
        """
        dataset = self.strategy.distribute_datasets_from_function(
            lambda context: split.evaluation(self.batch, context)
        )
        step = self._step(dataset.element_spec)
        batches = counted(dataset, -(-split.count // self.batch))
        found = [step(batch) for batch in batches]
        integers = np.concatenate([rows["integers"].numpy() for rows in found])
        floats = np.concatenate([rows["floats"].numpy() for rows in found])
        numbers = integers[:, 0]
        order = np.argsort(numbers, kind="stable")[np.count_nonzero(numbers < 0) :]
        if not np.array_equal(numbers[order], np.arange(split.count)):
            raise RuntimeError(f"{len(order)} predictions for {split.count} examples")
        integers, floats = integers[order], floats[order]
        return Predictions(
            labels=integers[:, 1],
            losses=floats[:, 0],
            ranked=integers[:, 2:],
            ranked_probabilities=floats[:, 1:],
            num_classes=self.network.num_classes,
        )


def confusion_image(confusion, side=480):
    """Draws a confusion matrix: dark means none of a row's examples, light all of them.

    Args:
        confusion: int array `(classes, classes)`.
        side: int, the approximate width in pixels.

    Returns:
        uint8 array `(1, height, width, 3)`.
    """
    rows = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, rows, out=np.zeros(confusion.shape), where=rows > 0)
    cell = max(side // len(confusion), 1)
    pixels = colours(shares).repeat(cell, axis=0).repeat(cell, axis=1)
    if cell >= 8:  # thin lines between the cells
        pixels[::cell] = pixels[:, ::cell] = 255
    return pixels[None]


def confusion_table(confusion, classes, most=30):
    """A confusion matrix in Markdown; for many classes the pairs that are confused most.

    Args:
        confusion: int array `(classes, classes)`.
        classes: list of str.
        most: int, the most classes for the whole matrix, and the most pairs otherwise.

    Returns:
        str.
    """
    if len(classes) <= most:
        lines = [markdown_row(["label \\ prediction", *classes])]
        lines.append("| --- |" + " ---: |" * len(classes))
        for name, row in zip(classes, confusion, strict=True):
            lines.append(markdown_row([name, *row]))
        return "\n".join(lines)
    wrong = confusion * (1 - np.eye(len(confusion), dtype=int))
    lines = ["| label | prediction | examples |", "| --- | --- | ---: |"]
    for place in np.argsort(-wrong, axis=None, kind="stable")[:most]:
        label, prediction = divmod(int(place), len(classes))
        if wrong[label, prediction]:
            count = wrong[label, prediction]
            lines.append(markdown_row([classes[label], classes[prediction], count]))
    return "\n".join(lines)


def accuracy_table(confusion, classes):
    """The accuracy of every class in Markdown, the worst first.

    Args:
        confusion: int array `(classes, classes)`.
        classes: list of str.

    Returns:
        str.
    """
    shares, counts = metrics.per_class_accuracy(confusion), confusion.sum(axis=1)
    lines = ["| class | accuracy | examples |", "| --- | ---: | ---: |"]
    for place in np.argsort(np.nan_to_num(shares, nan=2.0), kind="stable"):
        lines.append(markdown_row([classes[place], f"{shares[place]:.4f}", counts[place]]))
    return "\n".join(lines)


def write_summaries(folder, name, predictions, classes, step, is_first=True):
    """Writes a confusion matrix and per-class accuracies for TensorBoard.

    Args:
        folder: str, a folder of TensorBoard events.
        name: str, of the split.
        predictions: `Predictions`.
        classes: list of str.
        step: int.
        is_first: bool, whether the split is also evaluated during training: its curve ends here.
    """
    confusion, measures = predictions.confusion, predictions.measures()
    writer = tf.summary.create_file_writer(folder)
    with writer.as_default(step=step):
        for metric in metrics.METRICS:
            tag = tensorboard_tag(metric) if is_first else f"{metric}/{name}"
            tf.summary.scalar(tag, measures[metric])
        tf.summary.image(
            f"confusion/{name}",
            confusion_image(confusion),
            description="Rows are labels, columns predictions, in the order of the table.",
        )
        tf.summary.text(f"confusion_table/{name}", confusion_table(confusion, classes))
        tf.summary.text(f"accuracy_of_classes_table/{name}", accuracy_table(confusion, classes))
        shares = metrics.per_class_accuracy(confusion)
        tf.summary.histogram(f"accuracy_of_classes/{name}", shares[~np.isnan(shares)])
        if len(classes) <= 30:
            for label, share in zip(classes, shares, strict=True):
                if not np.isnan(share):
                    tf.summary.scalar(f"accuracy_of_classes_{name}/{label}", share)
    writer.close()

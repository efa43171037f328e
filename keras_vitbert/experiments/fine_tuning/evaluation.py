"""Predictions for every example of a split, each exactly once on any number of replicas, and their
measures, in NumPy."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from keras_vitbert.model.classifier import Classifier
from keras_vitbert.model.whole_batches import on_whole_batches
from keras_vitbert.training.losses import cross_entropy
from pipelines.status import counted, doing
from pipelines.tasks.labelled_images import LabelledImages
from pipelines.tasks.labelled_texts import LabelledTexts

Split = LabelledImages | LabelledTexts

MEASURES = ("accuracy", "f1", "mcc", "log_loss", "ece")
# With more classes than this, only the most probable are kept: a few numbers per example.
_ALL_CLASSES, _TOP_CLASSES = 20, 5


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """A classifier's predictions for a split, in the order of the split.

    `ranked` has the classes from the most probable down: all of them if there are at most 20,
    otherwise five.
    """

    labels: np.ndarray  # int32 `(examples,)`
    losses: np.ndarray  # float32 `(examples,)`, `-log` of the probability of the label
    ranked: np.ndarray  # int32 `(examples, kept)`
    ranked_probabilities: np.ndarray  # float32 `(examples, kept)`
    num_classes: int

    @property
    def predictions(self) -> np.ndarray:
        """The most probable class: int32 array `(examples,)`."""
        return self.ranked[:, 0]

    @property
    def confusion(self) -> np.ndarray:
        """Counts of labels (rows) by predictions: int64 `(num_classes, num_classes)`."""
        pairs = self.labels.astype(np.int64) * self.num_classes + self.predictions
        counts = np.bincount(pairs, minlength=self.num_classes**2)
        return counts.reshape(self.num_classes, self.num_classes)

    def measures(self) -> dict[str, Any]:
        """`examples`, `MEASURES`, and `majority_accuracy`, that of always the commonest class.

        `f1` is that of class 1 for two classes, as in GLUE, else the unweighted mean over classes;
        `mcc` is Matthews' correlation for any number of classes (Gorodkin 2004), 0 if all labels or
        all predictions are of one class; `log_loss` is in nats; for `ece` see `calibration_error`.
        """
        confusion = self.confusion
        counts, total = confusion.sum(axis=1), confusion.sum()
        f1 = np.nan_to_num(_by_class(confusion)["f1"])  # 0 where neither present nor predicted
        right = self.predictions == self.labels
        return {
            "examples": int(total),
            "accuracy": float(np.trace(confusion) / total),
            "f1": float(f1[1] if len(f1) == 2 else f1.mean()),
            "mcc": _mcc(confusion.astype(np.float64)),
            "majority_accuracy": float(counts.max() / total),
            "log_loss": float(self.losses.mean(dtype=np.float64)),
            "ece": calibration_error(right, self.ranked_probabilities[:, 0]),
        }


def logged(measures: dict[str, Any]) -> dict[str, float]:
    """The measures of a split that are logged during training."""
    return {"loss": measures["log_loss"], **{n: measures[n] for n in MEASURES if n != "log_loss"}}


def class_measures(confusion: np.ndarray, classes: list[str]) -> list[dict[str, Any]]:
    """How well each class is predicted, from `Predictions.confusion` and the classes' names.

    Returns:
        In the order of the classes: `name`, `examples`, `recall` (the accuracy within the class),
        `precision` and `f1`; None where there is nothing to divide by.
    """
    shares = {
        measure: [None if np.isnan(value) else float(value) for value in values]
        for measure, values in _by_class(confusion).items()
    }
    return [
        {"name": name, "examples": int(count), **{m: each[place] for m, each in shares.items()}}
        for place, (name, count) in enumerate(zip(classes, confusion.sum(axis=1), strict=True))
    ]


def _by_class(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Recall, precision and F1 of each class; NaN where there is nothing to divide by."""
    right, counts, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return {
            "recall": right / counts,
            "precision": right / predicted,
            "f1": 2 * right / (counts + predicted),
        }


def _mcc(confusion: np.ndarray) -> float:
    total, right = confusion.sum(), np.trace(confusion)
    of_class, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    covariance = right * total - of_class @ predicted
    spread = (total**2 - predicted @ predicted) * (total**2 - of_class @ of_class)
    return float(covariance / np.sqrt(spread)) if spread > 0 else 0.0


def calibration_error(right: np.ndarray, confidences: np.ndarray, bins: int = 15) -> float:
    """The expected calibration error, in [0, 1] (Guo et al. 2017, eq. 3), with equal bins.

    It is the mean absolute difference between a bin's accuracy and its mean confidence, weighted by
    the number of examples in the bin; the bin of `p` is `(i / bins, (i + 1) / bins]`.

    Args:
        right: bool array `(examples,)`, whether the prediction is the label.
        confidences: float array `(examples,)`, the probability of the prediction.
    """
    confidences = np.asarray(confidences, np.float64)
    edges = np.arange(1, bins) / bins
    places = np.searchsorted(edges, confidences, side="left")
    surplus = np.bincount(places, weights=confidences - right, minlength=bins)
    return float(np.abs(surplus).sum() / len(confidences))


class Evaluator:
    """Runs a classifier over splits; its step is traced once for splits of one kind.

    `batch` counts examples per step over all replicas; it is rounded up to a multiple of these.
    """

    def __init__(self, network: Classifier, strategy: Any, batch: int):
        self.network, self.strategy = network, strategy
        self.num_classes = network.num_classes or 0  # a classifier has some
        replicas = strategy.num_replicas_in_sync
        self.batch = -(-batch // replicas) * replicas
        # By the spec of batches: other lengths need no new trace.
        self._steps: dict[str, Callable] = {}

    def predict_step(self, batch: dict[str, Any]) -> tuple[Any, Any]:
        """The step of one replica, on inputs with `numbers` and `labels`, int32 `(examples,)`.

        Returns:
            (int32 `(examples, 2 + kept)`, the index and label of each example and its most
            probable classes; float32 `(examples, 1 + kept)`, its loss and the probabilities of
            these classes).
        """
        logits = ops.cast(self.network(batch, training=False), "float32")
        classes = self.num_classes
        kept = classes if classes <= _ALL_CLASSES else _TOP_CLASSES
        # Logits are ranked: unequal ones may have equal probabilities.
        ranked = ops.top_k(logits, kept)[1]  # pyright: ignore[reportOptionalSubscript]
        probabilities = ops.take_along_axis(ops.softmax(logits), ranked, axis=1)
        losses = cross_entropy(batch["labels"], logits)
        numbers = ops.stack([batch["numbers"], batch["labels"]], axis=1)
        return (
            ops.concatenate([numbers, ops.cast(ranked, "int32")], axis=1),
            ops.concatenate([losses[:, None], probabilities], axis=1),
        )

    def rows(self, split: Split) -> tuple[np.ndarray, np.ndarray]:
        """The outputs of `predict_step` for all examples, in the order of the split."""
        dataset = self.strategy.distribute_datasets_from_function(
            lambda context: split.evaluation(self.batch, context)
        )
        spec = dataset.element_spec
        if repr(spec) not in self._steps:
            of_share, model = self.predict_step, self.network
            self._steps[repr(spec)] = on_whole_batches(of_share, model, self.strategy, spec=spec)
        batches = counted(dataset, -(-split.count // self.batch))
        outputs = map(self._steps[repr(spec)], batches)
        rows, floats = map(np.concatenate, zip(*outputs, strict=True))
        order = np.argsort(rows[:, 0])
        order = order[rows[order, 0] >= 0]
        rows, floats = rows[order], floats[order]
        # A shard that is read twice or not at all would change the measures in silence.
        if not np.array_equal(rows[:, 0], np.arange(split.count)):
            raise RuntimeError(f"{len(rows)} predictions for {split.count} examples")
        return rows, floats

    def predict(self, split: Split) -> Predictions:
        """Predicts the classes of a split, with their probabilities."""
        rows, floats = self.rows(split)
        return Predictions(
            labels=rows[:, 1],
            losses=floats[:, 0],
            ranked=rows[:, 2:],
            ranked_probabilities=floats[:, 1:],
            num_classes=self.num_classes,
        )

    def predict_all(self, splits: dict[str, Split]) -> dict[str, Predictions]:
        """Predicts the classes of several splits by name, and tells which one is in progress."""
        predictions = {}
        for name, split in splits.items():
            with doing(f"evaluating on {name} ({split.count:,} examples)", "validation"):
                predictions[name] = self.predict(split)
        return predictions

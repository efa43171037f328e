"""Predictions for every example of a split, each exactly once, on any number of replicas."""

import dataclasses

import numpy as np
from keras import ops

from keras_vitbert.experiments.fine_tuning import metrics
from keras_vitbert.model.whole_batches import on_whole_batches
from keras_vitbert.training.losses import cross_entropy
from pipelines.status import counted, doing

# With more classes than this, only the most probable are kept: a few numbers per example.
_ALL_CLASSES, _TOP_CLASSES = 20, 5


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """A classifier's predictions for a split, in the order of the split.

    Attributes:
        labels: int32 array `(examples,)`.
        losses: float32 array `(examples,)`, `-log` of the probability of the label.
        ranked: int32 array `(examples, kept)`, the classes from the most probable down: all of them
            if there are at most 20, otherwise five.
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
        """Class probabilities: float32 `(examples, num_classes)`; None if not all are kept."""
        if self.ranked.shape[1] < self.num_classes:
            return None
        in_order = np.empty_like(self.ranked_probabilities)
        np.put_along_axis(in_order, self.ranked, self.ranked_probabilities, axis=1)
        return in_order

    @property
    def label_probabilities(self):
        """The probability of each example's label: float32 array `(examples,)`."""
        return np.exp(-self.losses)

    @property
    def confusion(self):
        """See `metrics.confusion_matrix`."""
        return metrics.confusion_matrix(self.labels, self.predictions, self.num_classes)

    def measures(self):
        """The result of `metrics.measures`, `log_loss` and `ece`: dict of name to number.

        `log_loss` is the mean of `losses`; for `ece` see `metrics.calibration_error`.
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
        strategy: the strategy `network` was built under, see `tpu.strategy.get_strategy`.
        batch: int, examples per step over all replicas; rounded up to a multiple of their number.
    """

    def __init__(self, network, strategy, batch):
        self.network = network
        self.strategy = strategy
        replicas = strategy.num_replicas_in_sync
        self.batch = -(-batch // replicas) * replicas
        self._steps = {}

    def _step(self, spec):
        """The compiled step for batches of a spec; other lengths need no new trace."""
        key = repr(spec)
        if key not in self._steps:
            of_share, model = self.predict_step, self.network
            self._steps[key] = on_whole_batches(of_share, model, self.strategy, spec=spec)
        return self._steps[key]

    def predict_step(self, batch):
        """The step of one replica.

        Args:
            batch: dict of a replica's inputs, with `numbers` and `labels`, int32 `(examples,)`.

        Returns:
            (int32 `(examples, 2 + kept)`, the index and label of each example and its most
            probable classes; float32 `(examples, 1 + kept)`, its loss and the probabilities of
            these classes).
        """
        logits = ops.cast(self.network(batch, training=False), "float32")
        classes = self.network.num_classes
        kept = classes if classes <= _ALL_CLASSES else _TOP_CLASSES
        # Logits are ranked: unequal ones may have equal probabilities.
        ranked = ops.top_k(logits, kept)[1]
        probabilities = ops.take_along_axis(ops.softmax(logits), ranked, axis=1)
        losses = cross_entropy(batch["labels"], logits)
        numbers = ops.stack([batch["numbers"], batch["labels"]], axis=1)
        return (
            ops.concatenate([numbers, ops.cast(ranked, "int32")], axis=1),
            ops.concatenate([losses[:, None], probabilities], axis=1),
        )

    def rows(self, split):
        """The outputs of `predict_step` for a split.

        Args:
            split: `LabelledImages` or `LabelledTexts`.

        Returns:
            (int32 array `(examples, 2 or more)`, float32 array `(examples, columns)`), in the order
            of the split.

        Raises:
            RuntimeError: an example was missed, or seen twice.
        """
        dataset = self.strategy.distribute_datasets_from_function(
            lambda context: split.evaluation(self.batch, context)
        )
        step = self._step(dataset.element_spec)
        batches = counted(dataset, -(-split.count // self.batch))
        rows, floats = map(np.concatenate, zip(*map(step, batches), strict=True))
        order = np.argsort(rows[:, 0])
        order = order[rows[order, 0] >= 0]
        rows, floats = rows[order], floats[order]
        if not np.array_equal(rows[:, 0], np.arange(split.count)):
            raise RuntimeError(f"{len(rows)} predictions for {split.count} examples")
        return rows, floats

    def predict(self, split):
        """Predicts the classes of a split, with their probabilities.

        Args:
            split: `LabelledImages` or `LabelledTexts`.

        Returns:
            `Predictions`.

        Raises:
            RuntimeError: see `rows`.
        """
        rows, floats = self.rows(split)
        return Predictions(
            labels=rows[:, 1],
            losses=floats[:, 0],
            ranked=rows[:, 2:],
            ranked_probabilities=floats[:, 1:],
            num_classes=self.network.num_classes,
        )

    def predict_all(self, splits):
        """Predicts the classes of several splits, and reports which one is in progress.

        Args:
            splits: dict of a name to a split.

        Returns:
            dict of the same names to `Predictions`.
        """
        found = {}
        for name, split in splits.items():
            with doing(f"evaluating on {name} ({split.count:,} examples)", "validation"):
                found[name] = self.predict(split)
        return found

"""Measures of predictions, in NumPy: each example counts once, whichever replica computed it."""

import numpy as np


def confusion_matrix(labels, predictions, num_classes):
    """Counts the examples of each class by their predicted class.

    Args:
        labels, predictions: int arrays `(examples,)`.
        num_classes: int.

    Returns:
        int64 array `(num_classes, num_classes)`: rows are labels, columns predictions.
    """
    pairs = np.asarray(labels, np.int64) * num_classes + np.asarray(predictions, np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(confusion):
    """The fraction of examples that are predicted correctly.

    Args:
        confusion: int array `(num_classes, num_classes)`, see `confusion_matrix`.

    Returns:
        float.
    """
    return float(np.trace(confusion) / confusion.sum())


def per_class_accuracy(confusion):
    """The fraction of each class's examples that are predicted correctly.

    Args:
        confusion: int array `(num_classes, num_classes)`, see `confusion_matrix`.

    Returns:
        float array `(num_classes,)`; NaN for a class without examples.
    """
    counts = confusion.sum(axis=1)
    return np.divide(np.diag(confusion), counts, out=np.full(len(counts), np.nan), where=counts > 0)


def f1(confusion):
    """F1 of class 1 for two classes, as in GLUE; for more, the unweighted mean over classes.

    A class that is neither present nor predicted counts as 0.

    Args:
        confusion: int array `(num_classes, num_classes)`, see `confusion_matrix`.

    Returns:
        float.
    """
    right = np.diag(confusion).astype(np.float64)
    found = confusion.sum(axis=0) + confusion.sum(axis=1)
    scores = np.divide(2 * right, found, out=np.zeros(len(right)), where=found > 0)
    return float(scores[1] if len(scores) == 2 else scores.mean())


def mcc(confusion):
    """Matthews' correlation coefficient, for any number of classes (Gorodkin 2004).

    Args:
        confusion: int array `(num_classes, num_classes)`, see `confusion_matrix`.

    Returns:
        float in [-1, 1]; 0 if all labels or all predictions are of one class.
    """
    confusion = confusion.astype(np.float64)
    total, right = confusion.sum(), np.trace(confusion)
    of_class, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    covariance = right * total - of_class @ predicted
    spread = (total**2 - predicted @ predicted) * (total**2 - of_class @ of_class)
    return float(covariance / np.sqrt(spread)) if spread > 0 else 0.0


def calibration_error(right, confidences, bins=15):
    """The expected calibration error (Guo et al. 2017, eq. 3), with bins of equal width.

    Args:
        right: bool array `(examples,)`, whether the prediction is the label.
        confidences: float array `(examples,)`, the probability of the prediction.
        bins: int; the bin of `p` is `(i / bins, (i + 1) / bins]`.

    Returns:
        float in [0, 1]: the mean absolute difference between a bin's accuracy and its mean
        confidence, weighted by the number of examples in the bin.
    """
    confidences = np.asarray(confidences, np.float64)
    edges = np.arange(1, bins) / bins
    places = np.searchsorted(edges, confidences, side="left")
    surplus = np.bincount(places, weights=confidences - right, minlength=bins)
    return float(np.abs(surplus).sum() / len(confidences))


def class_measures(confusion, classes):
    """How well each class is predicted.

    Args:
        confusion: int array `(num_classes, num_classes)`, see `confusion_matrix`.
        classes: list of str, their names.

    Returns:
        list of dict in the order of the classes: `name`, `examples`, `recall` (the accuracy within
        the class), `precision` and `f1`; None where there is nothing to divide by.
    """
    right, counts, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)

    def share(part, whole):
        return float(part / whole) if whole else None

    return [
        {
            "name": name,
            "examples": int(counts[place]),
            "recall": share(right[place], counts[place]),
            "precision": share(right[place], predicted[place]),
            "f1": share(2 * right[place], counts[place] + predicted[place]),
        }
        for place, name in enumerate(classes)
    ]


METRICS = {"accuracy": accuracy, "f1": f1, "mcc": mcc}
# Measures of the probabilities, see `evaluation.Predictions.measures`.
OF_PROBABILITIES = ("log_loss", "ece")


def measures(confusion):
    """All metrics of a confusion matrix, and the baseline they are compared with.

    Args:
        confusion: int array `(num_classes, num_classes)`, see `confusion_matrix`.

    Returns:
        dict with `examples`, the `METRICS`, and `majority_accuracy`, the accuracy of always
        predicting the most common class.
    """
    return {
        "examples": int(confusion.sum()),
        **{name: metric(confusion) for name, metric in METRICS.items()},
        "majority_accuracy": float(confusion.sum(axis=1).max() / confusion.sum()),
    }

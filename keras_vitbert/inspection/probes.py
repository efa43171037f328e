"""Simple classifiers on frozen features: what an encoder has learned, in seconds.

Ridge regression on the classes, in closed form, with the penalty that leaving one out says is best
(Beyer et al., big_vision, evaluate so from a few examples of each class); and the nearest
neighbours by cosine similarity. Both are scikit-learn's. They have no learning rate, no seed of a
head and no noise of training, so that they tell runs apart where one fine-tuning of some hundred
examples does not.
"""

import dataclasses

import numpy as np

from pipelines.command_line import UserError

NEIGHBOURS = 20
PENALTIES = tuple(10.0**power for power in range(-3, 6))
RIDGE, NEAREST = "ridge", "neighbours"


def require_scikit_learn():
    """Refuses to begin without scikit-learn.

    Raises:
        UserError: it is not installed.
    """
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise UserError(
            'probes need scikit-learn; pip install "keras-vitbert[reproduce]"'
        ) from error


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """What a frozen encoder says of the examples of a split.

    Attributes:
        values: float32 array `(examples, D)`, the outputs at the class token.
        labels: int array `(examples,)`.
    """

    values: np.ndarray
    labels: np.ndarray

    def shots(self, count, seed):
        """As many examples of each class, drawn by a seed; all of a class that has fewer.

        Args:
            count: int; 0 for all.
            seed: int.

        Returns:
            `Features`.
        """
        if not count:
            return self
        random = np.random.default_rng(seed)
        chosen = [
            random.permutation(np.flatnonzero(self.labels == label))[:count]
            for label in np.unique(self.labels)
        ]
        places = np.sort(np.concatenate(chosen))
        return Features(self.values[places], self.labels[places])


def probe(train, test):
    """Classifies some examples by others.

    Args:
        train, test: `Features`; of one class there is one answer.

    Returns:
        dict of `ridge` and `neighbours` to the accuracy on `test`.
    """
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    [first, *others] = np.unique(train.labels)
    if not others:
        return dict.fromkeys((RIDGE, NEAREST), float(np.mean(test.labels == first)))
    nearest = KNeighborsClassifier(min(NEIGHBOURS, len(train.labels)), metric="cosine")
    classifiers = {
        RIDGE: make_pipeline(StandardScaler(), RidgeClassifierCV(PENALTIES)),
        NEAREST: make_pipeline(StandardScaler(), nearest),
    }
    found = {}
    for name, classifier in classifiers.items():
        classifier.fit(train.values.astype(np.float64), train.labels)
        predictions = classifier.predict(test.values.astype(np.float64))
        found[name] = float(np.mean(predictions == test.labels))
    return found

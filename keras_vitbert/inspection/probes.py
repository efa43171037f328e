"""Simple classifiers on frozen features: what an encoder has learned, in seconds.

One is ridge regression on the classes, in closed form, with the penalty chosen by leave-one-out
validation (Beyer et al., big_vision, evaluate this way from a few examples of each class). The
other is the nearest neighbours by cosine similarity. Both are scikit-learn's. They have no learning
rate, no head seed and no training noise, so that they distinguish runs where one fine-tuning on
some hundred examples does not.
"""

import dataclasses
from typing import Self

import numpy as np

NEIGHBOURS = 20
PENALTIES = tuple(10.0**power for power in range(-3, 6))
RIDGE, NEAREST = "ridge", "neighbours"


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """What a frozen encoder outputs for the examples of a split.

    Attributes:
        values: float32 `(examples, D)`, the outputs at the class token.
        labels: int `(examples,)`.
    """

    values: np.ndarray
    labels: np.ndarray

    def shots(self, count: int, seed: int) -> Self:
        """Draws `count` examples of each class, all of a smaller class; 0 draws all."""
        if not count:
            return self
        random = np.random.default_rng(seed)
        chosen = [
            random.permutation(np.flatnonzero(self.labels == label))[:count]
            for label in np.unique(self.labels)
        ]
        places = np.sort(np.concatenate(chosen))
        return dataclasses.replace(self, values=self.values[places], labels=self.labels[places])


def probe(train: Features, test: Features) -> dict[str, float]:
    """The accuracies on `test` of `ridge` and `neighbours` that learn from `train`."""
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    [first, *others] = np.unique(train.labels)
    if not others:  # scikit-learn wants two classes
        return dict.fromkeys((RIDGE, NEAREST), float(np.mean(test.labels == first)))
    nearest = KNeighborsClassifier(min(NEIGHBOURS, len(train.labels)), metric="cosine")
    classifiers = {
        RIDGE: make_pipeline(StandardScaler(), RidgeClassifierCV(PENALTIES)),
        NEAREST: make_pipeline(StandardScaler(), nearest),
    }
    accuracies = {}
    for name, classifier in classifiers.items():
        classifier.fit(train.values.astype(np.float64), train.labels)
        predictions = classifier.predict(test.values.astype(np.float64))
        accuracies[name] = float(np.mean(predictions == test.labels))
    return accuracies

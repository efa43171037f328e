"""Simple classifiers on frozen features: what an encoder has learned, in seconds.

Ridge regression on the classes, in closed form, with the penalty that leaving one out says is best
(Beyer et al., big_vision, evaluate so from a few examples of each class); and the nearest
neighbours by cosine similarity. Both are scikit-learn's. They have no learning rate, no seed of a
head and no noise of training, so that they tell runs apart where one fine-tuning of some hundred
examples does not.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from pipelines.command_line import UserError
from pipelines.status import counted, doing

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


def features_of(classifier, strategy, split, batch):
    """The features of a split, each example once.

    Args:
        classifier: `keras_vitbert.model.classifier.Classifier`; its head is not used.
        strategy: `tf.distribute.Strategy` that it was made under.
        split: `LabelledImages` or `LabelledTexts`.
        batch: int, examples a step over all replicas.

    Returns:
        `Features`, in the order of the split.
    """
    replicas = strategy.num_replicas_in_sync
    batch = -(-batch // replicas) * replicas

    def one_replica(rows):
        values = tf.cast(classifier.features(rows)[:, 0], tf.float32)
        return rows["numbers"], rows["labels"], values

    @tf.function(autograph=False)
    def step(rows):
        found = strategy.run(one_replica, args=(rows,))
        return [strategy.gather(part, axis=0) for part in found]

    dataset = strategy.distribute_datasets_from_function(
        lambda context: split.evaluation(batch, context)
    )
    parts = [
        [part.numpy() for part in step(rows)] for rows in counted(dataset, -(-split.count // batch))
    ]
    numbers, labels, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(numbers, kind="stable")
    order = order[numbers[order] >= 0]  # what fills up the last batch has a negative number
    return Features(values[order], labels[order])


def probe(train, test):
    """Classifies the examples of one split by those of another.

    Args:
        train, test: `Features`.

    Returns:
        dict of `ridge` and `neighbours` to the accuracy on `test`.
    """
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

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


def probe_splits(classifier, strategy, train, tests, batch, shots=(0,), draws=3, seed=0):
    """Probes an encoder on a task.

    Args:
        classifier, strategy, batch: see `features_of`.
        train: the training split.
        tests: dict of a split's name to a split.
        shots: iterable of int, examples of each class to learn from; 0 for all.
        draws: int, how often a few examples are drawn, each with a seed of its own.
        seed: int, of the first draw.

    Returns:
        dict of a split's name to a dict of a number of shots to a dict of `ridge` and `neighbours`
        to list of float, the accuracies of the draws; of all examples there is one.
    """
    with doing(f"features of {train.count:,} training examples"):
        known = features_of(classifier, strategy, train, batch)
    found = {}
    for name, split in tests.items():
        with doing(f"features of {name} ({split.count:,} examples)"):
            asked = features_of(classifier, strategy, split, batch)
        found[name] = {}
        for count in shots:
            with doing(f"probing {name} with {count or 'all'} examples of each class"):
                every = [
                    probe(known.shots(count, seed + draw), asked)
                    for draw in range(draws if count else 1)
                ]
            found[name][count] = {
                kind: [accuracies[kind] for accuracies in every] for kind in (RIDGE, NEAREST)
            }
    return found

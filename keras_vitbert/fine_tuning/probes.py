"""Probes of a downstream task: features of its splits, and what simple classifiers make of them."""

import numpy as np
import tensorflow as tf

from keras_vitbert.inspection.probes import NEAREST, RIDGE, Features, probe
from pipelines.status import counted, doing


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

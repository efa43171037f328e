"""Probes on a downstream task: features of its splits, and simple classifiers on top of them."""

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vitbert.configs.fine_tuning import FineTuning
from keras_vitbert.experiments.fine_tuning.evaluation import Evaluator
from keras_vitbert.experiments.fine_tuning.inputs import Inputs
from keras_vitbert.inspection.probes import NEAREST, RIDGE, Features, probe
from keras_vitbert.runs.machine import Machine
from keras_vitbert.runs.record_errors import reading_images
from keras_vitbert.trained.weight_names import require_finite
from pipelines.command_line import say
from pipelines.status import doing
from pipelines.tasks.labelled_images import LabelledImages
from pipelines.tasks.labelled_texts import LabelledTexts


class FeatureReader(Evaluator):
    """Runs the encoder of a classifier over splits; its head is not used. See `Evaluator`."""

    def predict_step(self, batch):
        """The step of one replica.

        Args:
            batch: see `Evaluator.predict_step`.

        Returns:
            (int32 `(examples, 2)`, the index and label of each example; float32 `(examples, D)`,
            its features).
        """
        numbers = ops.stack([batch["numbers"], batch["labels"]], axis=1)
        return numbers, ops.cast(self.network.features(batch)[:, 0], "float32")

    def features(self, split: LabelledImages | LabelledTexts) -> Features:
        """The features of a split, each example once, in the order of the split."""
        numbers, values = self.rows(split)
        require_finite({"features": values}, self.network.name)
        return Features(values, numbers[:, 1])


@dataclasses.dataclass(frozen=True)
class Probe:
    """A frozen encoder beside the data of a task."""

    config: FineTuning
    given: Collection[str]  # fields that somebody set
    machine: Machine
    inputs: Inputs

    def run(self, shots: Sequence[int], draws: int = 1) -> dict[str, Any]:
        """Measures linear and nearest-neighbour classifiers on the encoder's features.

        Args:
            shots, draws: see `probe_splits`.

        Returns:
            The content of `summary.json`; `splits` is what `probe_splits` returns.

        Raises:
            ValueError: the checkpoint or the data are missing, damaged or do not fit.
        """
        config, strategy = self.config.for_devices(self.machine.devices), self.machine.strategy
        pretrained, config = self.inputs.pretrained(config)
        if config.kind == "images" and "image_size" not in self.given:
            config = config.with_values({"image_size": pretrained.model["image_size"]})
        data = self.inputs.open(config, pretrained.vocabulary, pretrained.max_length(config))
        keras.utils.set_random_seed(config.seed)  # for the weights that the checkpoint lacks
        with strategy.scope():
            classifier, _ = pretrained.classifier(config.kind, len(data.classes), config)
        reader = FeatureReader(classifier, strategy, config.evaluation_batch)
        with reading_images([data.train, *data.tests.values()]):
            found = probe_splits(reader, data.train, data.tests, shots, draws, config.seed)
        return {
            "task": config.task,
            "checkpoint": pretrained.name,
            "checkpoint_step": pretrained.step,
            "training_examples": data.train.count,
            "examples": {name: split.count for name, split in data.tests.items()},
            "splits": found,
        }


def probe_splits(
    reader: FeatureReader,
    train: LabelledImages | LabelledTexts,
    tests: dict[str, LabelledImages | LabelledTexts],
    shots: Iterable[int],
    draws: int,
    seed: int,
) -> dict[str, dict[int, dict[str, list[float]]]]:
    """Probes an encoder on splits.

    Args:
        reader: of the encoder.
        train: the training split.
        tests: splits by name.
        shots: examples of each class to learn from; 0 for all.
        draws: how many times a few examples are drawn, each with its own seed.
        seed: of the first draw.

    Returns:
        By split, number of shots, and `ridge` or `neighbours`: the accuracy of each draw. With all
        examples, there is one draw. Shots that no class has are left out, and reported.

    Raises:
        ValueError: all of them are, or a feature is not finite.
    """
    with doing(f"features of {train.count:,} training examples"):
        known = reader.features(train)
    most = int(np.bincount(known.labels).max())
    for count in shots:
        if count > most:
            say(f"shots={count}: left out, as no class has more than {most} training examples")
    shots = [count for count in shots if count <= most]
    if not shots:
        raise ValueError(f"shots: no class has so many training examples; give at most {most}")
    found = {}
    for name, split in tests.items():
        with doing(f"features of {name} ({split.count:,} examples)"):
            asked = reader.features(split)
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

"""Settings that follow from a user's own data and from the checkpoint.

In the configs of the tasks `images` and `texts`, these fields are empty unless they are given. The
values chosen for them are recorded, and a resumed run keeps them.
"""

import dataclasses
import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vitbert.configs.devices import batch_unit
from keras_vitbert.configs.fine_tuning import FineTuning, TextSettings
from keras_vitbert.configs.sections import flatten
from keras_vitbert.model.flops import TRAINING, encoder_flops
from keras_vitbert.runs.damaged_records import reading_images
from pipelines.images.image_records import ImageRecordFiles
from pipelines.tasks.listed_images import ListedImages

SMALL = 64  # pixels; smaller images lose their subject when cropped like ImageNet's
_BATCH = 64
_PASSES = 30  # over the training images
_STEPS = 300, 10_000  # at least, at most; the paper trains CIFAR for 10,000
_FINER = 384 / 224  # the paper pre-trains at 224 pixels and fine-tunes at 384
# The learning rate of AdamW times the width of the encoder: 1e-3 for the sample's 128, 1.7e-4 for
# the base model's 768. As in Yang et al. 2022, the best rate falls as the width grows.
_RATE = 0.128
# The same on texts: 7.8e-5 for BERT-base, 4.7e-4 for the sample's width, in the range that Turc et
# al. 2019 searched for BERTs of all sizes. Random weights are not better off with another one.
_TEXT_RATE = 0.06
# Few texts are read more often, as Mosbach et al. 2021 advise: until so many were read. More
# passes made models surer, and one of three more often right; see docs/results.md.
_TEXTS_READ = 12_000
_TEXT_PASSES = 3, 20  # at least, as for BERT; at most
# Of both at once, between the two.
_JOINT_RATE = 0.09
_LEAST_BATCH = 8  # of the task with fewer examples
# Training goes on while held-out examples get better: up to so many times the steps above, and so
# many operations, some four minutes of two CPU cores.
_LONGER = 8
_LEAST_HELD_OUT = 50  # fewer examples say nothing
_OPERATIONS = 3.5e13
_UPDATES = 100  # of masks would fit into a run: the paper's share of its steps
_LOOKED_AT = 64  # images
_POINTS = 20  # points of a curve: at least for training, at most for evaluation
_LONGEST_EPOCH = 100  # steps
_OF_EVALUATION = 0.03  # share of the model's work; under 5 % with decoding and measures


@dataclasses.dataclass(frozen=True)
class Pictures:
    """The sizes and channels of some of a store's images."""

    sizes: np.ndarray  # `(images, 2)`, heights and widths in pixels
    channels: np.ndarray  # 1 grey, 2 grey and transparency, 3 colours, 4 with transparency


def look_at(store: ListedImages | ImageRecordFiles) -> Pictures:
    """Looks at the first images of a store."""

    def shape(element: tf.Tensor) -> tf.Tensor:
        encoded, _ = store.read(element)
        return tf.shape(tf.io.decode_image(encoded, expand_animations=False))

    shapes = store.in_order(0, min(_LOOKED_AT, store.count)).map(shape)
    with reading_images([store]):
        read = np.array(list(shapes.as_numpy_iterator()))
    return Pictures(read[:, :2], read[:, 2])


class Chosen:
    """Fills in the open fields of a config; a resumed run keeps what it `recorded`.

    `model` is the `model` section of the checkpoint; a batch is a multiple of `replicas`.
    """

    def __init__(
        self, config: FineTuning, model: dict, recorded: dict | None = None, replicas: int = 1
    ):
        self.fields = config.open_fields()
        known = flatten(recorded or {})
        # By and by without open fields.
        self.config = config.with_values({f: known[f] for f in self.fields if f in known})
        self._model, self._replicas = model, replicas

    def choose_for_images(self, store: ListedImages | ImageRecordFiles) -> FineTuning:
        """The config for the training images in a store; of both tasks, their views alone."""
        model, pictures = self._model, look_at(store)
        side = int(np.median(pictures.sizes.min(axis=1)))  # the shorter one
        # The checkpoint's size, or a larger multiple of its patch if the images are larger.
        patch, own = model["patch_size"], model["image_size"]
        larger = -(-min(side, round(own * _FINER)) // patch) * patch
        views = {
            "image_size": max(own, larger),
            "images.crop_area": (0.8, 1.0) if side < SMALL else (0.08, 1.0),
        }
        if self.config.kind == "both":
            return self._fill({f"image.{field}": value for field, value in views.items()})
        batch, steps = self._for_images(store.count, self.config.value("batch"))
        config = self._fill({**views, "batch": batch, "steps": steps}, _RATE)
        return self._fill_most(config.steps, store.count, (batch, self._image_tokens(config)))

    def choose_for_texts(self, count: int, length: float) -> FineTuning:
        """The config for so many training texts, of a mean length in tokens."""
        config: Any = self._fill({"epochs": _passes(count)}, _TEXT_RATE)
        if config.steps and "epochs" in self.fields:  # then it has no effect
            self.fields.remove("epochs")
        return self._fill_most(config.steps_for(count), count, (config.batch, length))

    def choose_for_both(self, images: int, texts: int, length: float) -> FineTuning:
        """The config for so many training images and texts, these of a mean length in tokens.

        A step takes what makes each task see as many examples as alone, in the steps of the one
        that takes more.
        """
        config: Any = self.config
        batch, steps = self._for_images(images, config.image.batch)
        of_text = config.text.batch or TextSettings.batch
        wanted = {"image": batch * steps, "text": round(_passes(texts) * texts)}
        most = {"image": batch, "text": of_text}
        steps = config.steps or max(steps, round(wanted["text"] / of_text))
        values: dict[str, Any] = {"steps": steps}
        for section, examples in wanted.items():
            unit = batch_unit(self._replicas, config.accumulation, config.tasks[section].in_pairs)
            size = min(max(-(-examples // steps), _LEAST_BATCH), most[section])
            values[f"{section}.batch"] = -(-size // unit) * unit
        values["merge.image_loss_ratio"] = 0.5
        values["merge.mask_update_interval"] = max(steps // _UPDATES, 1)
        config = self._fill(values, _JOINT_RATE)
        of_images = config.tasks["image"].batch, self._image_tokens(config.tasks["image"])
        of_texts = config.tasks["text"].batch, length
        return self._fill_most(config.steps, min(images, texts), of_images, of_texts)

    def _image_tokens(self, settings: Any) -> int:
        side = settings.image_size // self._model["patch_size"]
        return side**2 + self._model["prefix_tokens"]

    def _fill_most(self, steps: int, count: int, *parts: tuple[int, float]) -> FineTuning:
        """Fills in `most_steps` for steps that take some batches of examples of so many tokens."""
        is_given = not {"steps", "epochs"} & set(self.fields)
        if is_given or count * self.config.validation_fraction < _LEAST_HELD_OUT:
            self.fields = [field for field in self.fields if field != "most_steps"]
            return self._fill({"most_steps": 0})
        model: Any = types.SimpleNamespace(**self._model)
        work = sum(TRAINING * n * encoder_flops(model, tokens, tokens) for n, tokens in parts)
        return self._fill({"most_steps": int(np.clip(_OPERATIONS / work, steps, _LONGER * steps))})

    def _for_images(self, count: int, batch: int) -> tuple[int, int]:
        """A batch, chosen if it is 0, and steps, for so many training images."""
        tasks = self.config.tasks.values()
        in_pairs = any(settings.in_pairs for settings in tasks)
        unit = batch_unit(self._replicas, self.config.accumulation, in_pairs)
        power = 1 << max(count.bit_length() - 1, 0)
        batch = batch or max(min(_BATCH, power) // unit, 1) * unit
        return batch, int(np.clip(round(_PASSES * count / batch), *_STEPS))

    def _fill(self, values: dict[str, Any], rate: float | None = None) -> FineTuning:
        """Fills in those that are open; `rate` is the learning rate times the width."""
        if rate is not None:
            values["optimizer.learning_rate"] = float(f"{rate / self._model['hidden_dim']:.1e}")
        is_open = set(self.config.open_fields())
        self.config = self.config.with_values({f: x for f, x in values.items() if f in is_open})
        return self.config


def _passes(count: int) -> float:
    """How often so many training texts are read."""
    return float(np.clip(round(_TEXTS_READ / count), *_TEXT_PASSES))


def with_intervals(
    config: FineTuning, count: int, evaluated: Sequence[int], most_executed: int = 1
) -> FineTuning:
    """A config with the numbers of steps that follow from the data.

    A `steps_per_epoch` of 0 gives a curve of `_POINTS` points or more. An `evaluation_interval` of
    -1 evaluates as often as the share `_OF_EVALUATION` of the work allows, or never. `count` is of
    the training examples, `evaluated` of those that are evaluated during training, by task.
    """
    steps, interval = config.steps_for(count), config.evaluation_interval
    epoch = config.steps_per_epoch
    if not epoch:
        executed = max(config.steps_per_execution, 1)
        longest = max(min(steps // _POINTS, _LONGEST_EPOCH), executed)
        lengths = range(executed, longest + 1, executed)
        epoch = max(n for n in lengths if interval < 1 or interval % n == 0)
    epoch = min(epoch, steps)
    if interval < 0:
        # A training step costs as much as evaluating its examples three times; the last batch of an
        # evaluation is padded.
        padded = [-(-count // config.evaluation_batch) for count in evaluated]
        batch = sum(settings.batch for settings in config.tasks.values())
        each = sum(padded) * config.evaluation_batch
        points = min(int(_OF_EVALUATION * 3 * steps * batch / each), _POINTS)
        interval = epoch * -(-(steps // epoch) // points) if points else 0
    values = {"steps": steps, "steps_per_epoch": epoch, "evaluation_interval": interval}
    return config.with_values(values).with_executions(most_executed)

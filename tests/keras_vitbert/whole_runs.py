"""Whole runs of the tiny config: what they leave, read back, and what it should be."""

import collections
import os

import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from keras_vitbert.runs import checkpoints
from pipelines.images.image_records import ImageStream
from pipelines.images.image_views import ImageViews
from pipelines.shards.records import RecordFiles
from tests.keras_vitbert.tiny_runs import (
    CLASSES,
    IMAGE_SIZE,
    assert_same_values,
    checkpoint_values,
    metrics_rows,
    summary_of,
)
from tests.marks import slow

STEPS = 10
EPOCH_ENDS = [4, 8, 10]
MAPS = [0, 5, STEPS]  # the activation maps of `joint`
EACH_KIND = ["vit", "joint", slow("bert"), slow("vitbert")]  # the last one has masks and teachers
CLOCK = ("seconds", "time", "images_per_second", "tokens_per_second", "resumed_from_step")


def without_clock(summary):
    """A summary without what depends on the clock, and on where the run was resumed."""
    return {name: value for name, value in summary.items() if name not in CLOCK}


def examples_of(folder, kind, split):
    """The stored examples, in order, as dicts of lists."""
    paths = sorted(str(path) for path in folder.glob(f"{kind}-{split}-*"))
    for record in tf.data.TFRecordDataset(paths):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        yield {
            name: list(getattr(feature, feature.WhichOneof("kind")).value)
            for name, feature in features.items()
        }


def text_inputs_of(example):
    """What a network takes, from the fields of a stored example."""
    names = {"token_ids": "input_ids", "segment_ids": "segment_ids"}
    names |= {"padding_mask": "input_mask", "masked_positions": "masked_lm_positions"}
    return {ours: np.array([example[name]]) for ours, name in names.items()}


def validate(network, folder):
    """Cross-entropies and accuracies on the validation examples, by NumPy, one by one."""
    found = collections.defaultdict(list)

    def add(task, logits, label):
        logits = np.asarray(logits, np.float64)
        log_sum = logits.max() + np.log(np.exp(logits - logits.max()).sum())
        found[f"{task}_loss"].append(log_sum - logits[label])
        found[f"{task}_accuracy"].append(float(np.argmax(logits) == label))

    if network.backbone.image_size is not None:
        records = RecordFiles.find(str(folder / "images-validation-*"))
        images = ImageStream(records, CLASSES, views=ImageViews(IMAGE_SIZE))
        for example in images.validation():
            logits = network({"images": example["images"][None] / 255})
            add("image", logits["image_logits"][0], int(example["image_labels"]))
    if network.backbone.vocabulary_size is not None:
        for example in examples_of(folder, "text", "validation"):
            logits = network(text_inputs_of(example))
            add("nsp", logits["nsp_logits"][0], example["next_sentence_labels"][0])
            for index, weight in enumerate(example["masked_lm_weights"]):
                if weight:
                    add("mlm", logits["mlm_logits"][0, index], example["masked_lm_ids"][index])
    return {name: float(np.mean(values)) for name, values in found.items()}


def tensorboard_scalars(folder):
    """`{(writer, tag): {step: value}}` from the event files."""
    scalars = collections.defaultdict(dict)
    for path in sorted(folder.glob("*/events.out.tfevents.*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    number = float(tf.make_ndarray(value.tensor))
                    scalars[path.parent.name, value.tag][event.step] = number
    return scalars


def shown_points(folder):
    """`{(writer, tag): steps}` of the points that TensorBoard shows, in their order."""
    points = {}
    for writer in ("train", "validation"):
        events = EventAccumulator(str(folder / writer)).Reload()
        for tag in events.Tags()["tensors"]:
            if not tag.startswith("_hparams_"):  # of each start
                points[writer, tag] = [event.step for event in events.Tensors(tag)]
    return points


def assert_same_inspection(folder, wanted, kind=""):
    """The same files of the same bytes."""
    found, expected = (
        {path.name: path.read_bytes() for path in (run / "inspection").glob(f"{kind}*")}
        for run in (folder, wanted)
    )
    assert found == expected


def assert_same_run(folder, wanted):
    """To the bit: weights, optimizer, masks, random generators; and all numbers of the logs."""
    assert_same_values(checkpoint_values(folder), checkpoint_values(wanted))
    assert metrics_rows(folder) == metrics_rows(wanted)
    assert_same_inspection(folder, wanted)
    assert without_clock(summary_of(folder)) == without_clock(summary_of(wanted))
    found, expected = tensorboard_scalars(folder), tensorboard_scalars(wanted)
    for key in expected:
        if "per_second" not in key[1]:
            assert found[key] == expected[key]
    assert len(os.listdir(folder / "checkpoints")) == 4  # GOOD, LAST, and as many as are kept


def last_step(folder):
    """The step of a run's last checkpoint; 0 where there is none."""
    return checkpoints.latest(str(folder / "checkpoints"))[1]

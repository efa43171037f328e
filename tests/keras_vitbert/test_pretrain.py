"""Whole runs of the command, on TFRecords that hold a handful of examples."""

import collections
import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert import load
from keras_vitbert.configs.variants import VARIANTS
from keras_vitbert.inspection.mask_pictures import block_picture, sparsity_chart
from keras_vitbert.inspection.mask_values import MaskValues
from keras_vitbert.model.shared_weights import KINDS
from keras_vitbert.pretrain import report
from keras_vitbert.pretraining import run as pretraining
from keras_vitbert.runs import callbacks, checkpoints
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DIVERGED, EXIT_DONE, EXIT_STOPPED
from pipelines.image_stream import ImageStream
from pipelines.shards.records import RecordFiles
from tests.keras_vitbert.tiny_runs import (
    CLASS_NAMES,
    CLASSES,
    IMAGE_SIZE,
    VOCABULARY,
    arguments,
    assert_same_values,
    checkpoint_values,
    config_of,
    files_below,
    metrics_rows,
    pretrain,
)

STEPS = 10
EPOCH_ENDS = [4, 8, 10]
UPDATES = [3, 5, 7]  # of the masks, which precede these steps
MASKED = ("vitbert", "vitbert_no_kd")
MAPPED = "joint"  # the run that draws activation maps
MAPS = [0, 5, STEPS]
# What these do, others do as well: masks `vitbert`, summed gradients `joint`.
EACH_VARIANT = [
    pytest.param(name, marks=pytest.mark.slow if name.startswith("vitbert_no") else ())
    for name in VARIANTS
]
CLOCK = ("seconds", "images_per_second", "tokens_per_second", "resumed_from_step")


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def without_clock(summary):
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


def validate(network, folder):
    """Cross-entropies and accuracies on the validation examples, by NumPy, one by one."""
    found = collections.defaultdict(list)

    def add(task, logits, label):
        logits = np.asarray(logits, np.float64)
        log_sum = logits.max() + np.log(np.exp(logits - logits.max()).sum())
        found[f"{task}_loss"].append(log_sum - logits[label])
        found[f"{task}_accuracy"].append(float(np.argmax(logits) == label))

    if network.backbone.image_size is not None:
        records = RecordFiles.find(str(folder / "images-validation-*"), "flag")
        for example in ImageStream(records, IMAGE_SIZE, CLASSES).validation():
            logits = network({"images": example["images"][None] / 255})
            add("image", logits["image_logits"][0], int(example["image_labels"]))
    if network.backbone.vocabulary_size is not None:
        for example in examples_of(folder, "text", "validation"):
            names = {"token_ids": "input_ids", "segment_ids": "segment_ids"}
            names |= {"padding_mask": "input_mask", "masked_positions": "masked_lm_positions"}
            logits = network({ours: np.array([example[name]]) for ours, name in names.items()})
            add("nsp", logits["nsp_logits"][0], example["next_sentence_labels"][0])
            for index, weight in enumerate(example["masked_lm_weights"]):
                if weight:
                    add("mlm", logits["mlm_logits"][0, index], example["masked_lm_ids"][index])
    return {name: float(np.mean(values)) for name, values in found.items()}


def masked_words(example):
    pairs = zip(example["masked_lm_ids"], example["masked_lm_weights"], strict=True)
    return [word for word, weight in pairs if weight]


def count_baselines(folder):
    """What frequencies alone reach, by counting."""

    def commonest(values):
        counts = collections.Counter(values)
        return min(value for value in counts if counts[value] == max(counts.values()))

    train, validation = (
        {
            "labels": [e["image/class/label"][0] for e in examples_of(folder, "images", split)],
            "words": [w for e in examples_of(folder, "text", split) for w in masked_words(e)],
            "next": [e["next_sentence_labels"][0] for e in examples_of(folder, "text", split)],
        }
        for split in ("train", "validation")
    )
    accuracy = {
        name: validation[name].count(commonest(train[name])) / len(validation[name])
        for name in train
    }
    total = len(train["words"]) + len(VOCABULARY)
    losses = [-math.log((train["words"].count(w) + 1) / total) for w in validation["words"]]
    return {
        "image_majority_accuracy": accuracy["labels"],
        "mlm_unigram_accuracy": accuracy["words"],
        "mlm_unigram_loss": sum(losses) / len(losses),
        "nsp_majority_accuracy": accuracy["next"],
    }


# --- a run, from one end to the other ----------------------------------------------------------


@pytest.mark.parametrize("variant", EACH_VARIANT)
def test_a_run_leaves_its_folder(finished, sources, variant):
    folder = finished(variant)
    uses = VARIANTS[variant]
    names = {"checkpoints", "logs", "metrics.csv", "config.json", "summary.json"}
    names |= {"vocabulary.txt"} if uses.text else set()
    names |= {"classes.txt"} if uses.images else set()
    names |= {"inspection"} if variant in (*MASKED, MAPPED) else set()
    assert set(os.listdir(folder)) == names
    assert sorted(os.listdir(folder / "checkpoints")) == ["LAST", "step-00000008", "step-00000010"]
    if uses.text:
        assert (folder / "vocabulary.txt").read_text().splitlines() == VOCABULARY
    if uses.images:
        assert (folder / "classes.txt").read_text().splitlines() == CLASS_NAMES

    record = json.loads((folder / "config.json").read_text())
    assert record["variant"] == variant and bool(record["vocabulary_sha256"]) == uses.text
    assert record["config"]["model"] == config_of(sources).model.to_dict()
    assert record["config"]["distillation"]["ratio"] == float(uses.distillation)
    assert record["config"]["merge"]["name"] == ("mask" if uses.masks else "sum")


@pytest.mark.parametrize("variant", EACH_VARIANT)
def test_the_summary_says_what_came_out(finished, sources, variant):
    folder = finished(variant)
    uses, summary = VARIANTS[variant], summary_of(folder)
    assert set(summary) >= {
        *("variant", "steps", "seconds", "images_per_second", "tokens_per_second", "parameters"),
        *("resumed_from_step", "validation", "baselines", "mask"),
    }
    assert (summary["variant"], summary["steps"]) == (variant, STEPS)
    assert summary["resumed_from_step"] == 0
    assert summary["seconds"] > 0
    assert (summary["images_per_second"] > 0) == uses.images
    assert (summary["tokens_per_second"] > 0) == uses.text

    network = load(str(folder)).network
    assert summary["parameters"] == sum(math.prod(v.shape) for v in network.trainable_variables)
    expected = validate(network, sources)
    assert {"image_accuracy"} <= set(expected) or not uses.images
    assert {"mlm_accuracy", "mlm_loss", "nsp_accuracy"} <= set(expected) or not uses.text
    found = {name: v for name, v in summary["validation"].items() if name != "loss"}
    assert found == pytest.approx(expected, rel=1e-5)

    expected = count_baselines(sources)
    assert all(0 < value < 1 for name, value in expected.items() if name.endswith("accuracy"))
    absent = () if uses.images else ("image",)
    absent += () if uses.text else ("mlm", "nsp")
    expected = {name: v for name, v in expected.items() if not name.startswith(absent or " ")}
    assert summary["baselines"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("variant", EACH_VARIANT)
def test_masks_end_at_their_ratio(finished, variant):
    folder = finished(variant)
    summary, values = summary_of(folder)["mask"], checkpoint_values(folder)
    masks = {name: value for name, value in values.items() if value.dtype == bool}
    assert bool(summary) == bool(masks) == (variant in MASKED)
    if masks:
        check_masks(summary, masks)


def check_masks(summary, masks):
    """The summary against the masks in the checkpoint, by their names."""
    cleared, sizes = collections.Counter(), collections.Counter()
    for name, mask in masks.items():
        block = "block_0" if "mask_block_0" in name else "final_norm"
        assert block in name
        cleared[block] += int((~mask).sum())
        sizes[block] += mask.size
    size = sum(sizes.values())
    # One block of D = 8, 12 units in its MLP: four projections, two dense layers, three norms.
    assert size == 4 * (8 * 8 + 8) + (8 * 12 + 12) + (12 * 8 + 8) + 3 * 2 * 8
    assert abs(sum(cleared.values()) - size / 2) <= 1
    assert (summary["cleared"], summary["size"]) == (sum(cleared.values()), size)
    assert summary["sparsity"] == pytest.approx(sum(cleared.values()) / size)
    expected = {block: cleared[block] / sizes[block] for block in sizes}
    assert summary["sparsity_per_block"] == pytest.approx(expected)


@pytest.mark.slow
def test_random_masks_and_bfloat16(finished, sources):
    folder = finished(
        "vitbert_no_kd", "--config.merge.name=random_mask", "--config.dtype=mixed_bfloat16"
    )
    values, summary = checkpoint_values(folder), summary_of(folder)
    [refreshes] = [value for name, value in values.items() if "refreshes" in name]
    assert refreshes == 3
    masks = {name: value for name, value in values.items() if value.dtype == bool}
    check_masks(summary["mask"], masks)
    for name, value in checkpoint_values(finished("vitbert_no_kd")).items():
        if name in masks and value.size > 30:
            assert not np.array_equal(value, masks[name])

    # Weights, optimizer and losses are float32; what is computed between them is not.
    assert {v.dtype for v in values.values() if v.dtype.kind not in "iub"} == {np.dtype("float32")}
    expected = validate(load(str(folder), "float32").network, sources)
    found = {name: value for name, value in summary["validation"].items() if name in expected}
    for name in ("image_loss", "mlm_loss", "nsp_loss"):
        assert found[name] == pytest.approx(expected[name], rel=0.03)
    for name in ("image_loss", "mlm_loss"):  # that of two nearly equal answers hardly depends on it
        assert found[name] != pytest.approx(expected[name], rel=1e-6)
    assert found == pytest.approx(
        validate(load(str(folder), "mixed_bfloat16").network, sources), rel=1e-2
    )


# --- logs --------------------------------------------------------------------------------------


def tensorboard_scalars(folder):
    """`{(writer, tag): {step: value}}` from the event files."""
    scalars = collections.defaultdict(dict)
    for path in sorted((folder / "logs").rglob("events.out.tfevents.*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    number = float(tf.make_ndarray(value.tensor))
                    scalars[path.parent.name, value.tag][event.step] = number
    return scalars


def expected_tags(variant):
    uses = VARIANTS[variant]
    tasks = (["image"] if uses.images else []) + (["mlm", "nsp"] if uses.text else [])
    losses = {f"loss/{task}_loss" for task in tasks} | {"loss/loss"}
    losses |= {f"accuracy/{task}_accuracy" for task in tasks}
    train = {*losses, "learning_rate/learning_rate", "gradient/gradient_norm"}
    train |= {"throughput/images_per_second"} if uses.images else set()
    train |= {"throughput/tokens_per_second"} if uses.text else set()
    if uses.images and uses.text:
        train |= {"gradient/text_gradient_norm", "gradient/image_gradient_norm"}
        train |= {"gradient/gradient_cosine"}
        for name in ("cosine", "norm_ratio", "opposite_sign"):
            train |= {
                f"gradient_conflict/{name}/{part}" for part in ("block_0", "final_norm", "all")
            }
    if variant in MASKED:
        train |= {"mask_sparsity/mask_sparsity", "mask_sparsity/block_0"}
        train |= {"mask_sparsity/final_norm", *(f"mask_sparsity/kind/{kind}" for kind in KINDS)}
    if variant == MAPPED:
        train |= {
            f"co_activation/{place}{name}"
            for place in ("", "block_0/")
            for name in ("overlap", "correlation")
        }
    final = {f"validation/{tag.split('/')[1]}" for tag in losses}
    return {
        *(("train", tag) for tag in train),
        *(("validation", tag) for tag in losses),
        *(("hparams", tag) for tag in final),
    }


@pytest.mark.parametrize("variant", EACH_VARIANT)
def test_logs_hold_every_number_at_the_end_of_each_epoch(finished, variant):
    folder = finished(variant)
    scalars = tensorboard_scalars(folder)
    assert set(scalars) == expected_tags(variant)
    rows = metrics_rows(folder)
    assert [int(row["step"]) for row in rows] == EPOCH_ENDS
    for (writer, tag), values in scalars.items():
        if writer == "hparams":
            name = tag.removeprefix("validation/")
            assert values == {STEPS: pytest.approx(summary_of(folder)["validation"][name])}
            continue
        if "co_activation" in tag:
            assert sorted(values) == MAPS
            continue
        # Masks are also told in the steps that update them.
        updates = UPDATES if "mask_sparsity" in tag else []
        if "kind" in tag:
            assert sorted(values) == updates
            continue
        assert sorted(values) == sorted({*EPOCH_ENDS, *updates})
        if "per_second" in tag or "gradient_conflict" in tag:
            continue
        column = tag if tag == "mask_sparsity/block_0" or "final_norm" in tag else tag.split("/")[1]
        column = f"val_{column}" if writer == "validation" else column
        assert [float(row[column]) for row in rows] == pytest.approx(
            [values[step] for step in EPOCH_ENDS], rel=1e-6
        )

    rates = scalars["train", "learning_rate/learning_rate"]
    for step, rate in rates.items():  # warm-up to step 2, then a line down to 0 at step 10
        assert rate == pytest.approx(1e-2 * (STEPS - step) / (STEPS - 2), abs=1e-9)
    if VARIANTS[variant].images and VARIANTS[variant].text:
        assert all(-1 < c < 1 and c for c in scalars["train", "gradient/gradient_cosine"].values())
        assert len(set(scalars["train", "gradient/text_gradient_norm"].values())) == 3
        # They are of the same steps.
        assert scalars["train", "gradient_conflict/cosine/all"] == pytest.approx(
            scalars["train", "gradient/gradient_cosine"]
        )
    if variant in MASKED:
        size = summary_of(folder)["mask"]["size"]
        found = scalars["train", "mask_sparsity/mask_sparsity"]
        for step, sparsity in {3: 0.2, 4: 0.2, 5: 0.4, 7: 0.5, 8: 0.5, 10: 0.5}.items():
            assert found[step] == pytest.approx(sparsity, abs=1 / size)


@pytest.mark.parametrize("variant", ["vit", "joint"])
def test_every_validation_is_of_its_own_step(finished, sources, variant):
    """Not only the last one: that of step 8 is that of the checkpoint of step 8."""
    folder = finished(variant)
    network = load(str(folder)).network
    checkpoints.restore_network(str(folder / "checkpoints" / "step-00000008"), network)
    row = metrics_rows(folder)[1]
    found = {name.removeprefix("val_"): float(v) for name, v in row.items() if "val_" in name}
    expected = validate(network, sources)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert expected != pytest.approx(summary_of(folder)["validation"], rel=1e-3)


def test_validation_at_longer_intervals(finished):
    """Validation does not touch training; it comes at its interval and at the end."""
    often = finished("vit")
    folder = finished("vit", "--config.validation_interval=8")
    assert_same_values(
        *(
            {n: v for n, v in checkpoint_values(f).items() if not n.startswith("metrics")}
            for f in (often, folder)
        )
    )
    rows, wanted = metrics_rows(folder), metrics_rows(often)
    assert [bool(row["val_image_loss"]) for row in rows] == [False, True, True]
    assert rows[1:] == wanted[1:]
    assert without_clock(summary_of(folder)) == without_clock(summary_of(often))


def test_the_report_is_the_summary(finished):
    summary = summary_of(finished("vitbert"))
    text = report(summary, "some/folder")
    for name in ("image_accuracy", "mlm_loss", "mlm_accuracy", "nsp_accuracy"):
        assert f"{summary['validation'][name]:.4f}" in text
    for value in summary["baselines"].values():
        assert f"baseline {value:.4f}" in text
    for block, sparsity in summary["mask"]["sparsity_per_block"].items():
        assert f"{block} {sparsity:.3f}" in text
    assert "some/folder/summary.json" in text
    alone = report(summary_of(finished("bert")), "x")
    assert "masked-LM" in alone and "image" not in alone and "mask sparsity" not in alone


# --- what is looked at on the way ---------------------------------------------------------------


def tensorboard_images(folder):
    """`{tag: {step: picture}}` of the training log."""
    images = collections.defaultdict(dict)
    for path in sorted((folder / "logs" / "train").glob("events.out.tfevents.*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "images":
                    _, _, picture = value.tensor.string_val  # width, height, PNG
                    images[value.tag][event.step] = tf.io.decode_png(picture).numpy()
    return images


def test_masks_are_shown_at_every_update(finished):
    folder = finished("vitbert")
    updates = MaskValues.read(str(folder))
    assert [update.step for update in updates] == UPDATES
    images = tensorboard_images(folder)
    assert {tag for tag in images if tag.startswith("masks/")} == {
        "masks/sparsity",
        "masks/block_0",
    }
    for number, update in enumerate(updates, 1):
        chart, strips = (images[f"masks/{name}"][update.step] for name in ("sparsity", "block_0"))
        np.testing.assert_array_equal(chart, sparsity_chart(update))
        np.testing.assert_array_equal(strips, block_picture(updates[:number], "block_0"))

    # The last ones are those of the checkpoint.
    masks = {name: x for name, x in checkpoint_values(folder).items() if x.dtype == bool}
    assert updates[-1].cleared.sum() == sum(np.sum(~mask) for mask in masks.values())
    for kind, name in (("query", "query_kernel"), ("mlp_in", "intermediate_dense_kernel")):
        [mask] = [mask for path, mask in masks.items() if name in path]
        np.testing.assert_array_equal(updates[-1].kept["block_0"][kind], mask.reshape(8, -1))
    scalars = tensorboard_scalars(folder)
    for kind, sparsity in updates[1].of_kinds.items():
        assert scalars["train", f"mask_sparsity/kind/{kind}"][5] == pytest.approx(sparsity)


@pytest.mark.slow
def test_looking_changes_nothing(finished):
    """A run that is looked at in every step is, to the bit, the run that nobody looks at."""
    off = "--config.inspection.gradient_interval=0", "--config.inspection.mask_pictures=false"
    on = "--config.inspection.gradient_interval=1", "--config.inspection.gradient_histograms=true"
    unseen, seen = finished("vitbert_no_kd", *off), finished("vitbert_no_kd", *on)
    assert_same_values(checkpoint_values(unseen), checkpoint_values(seen))
    for ours, theirs in zip(metrics_rows(unseen), metrics_rows(seen), strict=True):
        looked_at = set(theirs) - set(ours)
        assert looked_at == {"text_gradient_norm", "image_gradient_norm", "gradient_cosine"}
        assert ours == {name: value for name, value in theirs.items() if name in ours}
    tags = [{tag for _, tag in tensorboard_scalars(run)} for run in (unseen, seen)]
    assert not any("conflict" in tag or "kind" in tag for tag in tags[0])
    assert not any("masks" in tag for tag in tensorboard_images(unseen))
    assert not list((unseen / "inspection").glob("masks*"))
    conflict = tensorboard_scalars(seen)["train", "gradient_conflict/opposite_sign/block_0"]
    assert sorted(conflict) == list(range(1, STEPS + 1))


# --- teachers ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_teachers_are_runs_of_their_own(finished, sources):
    folder = finished("vitbert", own_teachers=True) / "teachers"
    assert sorted(os.listdir(folder)) == ["bert", "vit"]
    for name, steps in (("vit", 3), ("bert", 4)):
        summary = summary_of(folder / name)
        assert (summary["variant"], summary["steps"]) == (name, steps)
        trained = load(str(folder / name))
        network, record = trained.network, trained.record
        assert record["config"]["model"] == config_of(sources).model.to_dict()
        found = {n: v for n, v in summary["validation"].items() if n != "loss"}
        assert found == pytest.approx(validate(network, sources), rel=1e-5)


def test_given_teachers_are_used(finished, sources, tmp_path, monkeypatch):
    loaded = {}
    load_teacher = pretraining.load_teacher

    def spy(kind, path, *others):
        loaded[kind] = path, load_teacher(kind, path, *others)
        if kind == "text":
            raise InterruptedError  # both are there; nothing need be trained
        return loaded[kind][1]

    teachers = {"image": finished("vit"), "text": finished("bert")}
    before = [files_below(teacher) for teacher in teachers.values()]
    with monkeypatch.context() as patched, pytest.raises(InterruptedError):
        patched.setattr(pretraining, "load_teacher", spy)
        flags = [f"--{kind}_teacher={teacher}" for kind, teacher in teachers.items()]
        pretrain(sources, tmp_path / "run", "--variant=vitbert_no_gm", *flags)
    for kind, teacher in teachers.items():
        path, network = loaded[kind]
        assert path == str(teacher)
        own = load(str(teacher)).network
        for ours, theirs in zip(network.weights, own.weights, strict=True):
            np.testing.assert_array_equal(ours.value, theirs.value)

    run = finished("vitbert_no_gm")
    assert not (run / "teachers").exists()
    assert [files_below(teacher) for teacher in teachers.values()] == before
    # The same but for the teachers, and nothing of them is in the checkpoint.
    with_teachers, without = checkpoint_values(run), checkpoint_values(finished("joint"))
    assert set(with_teachers) == set(without)
    weights = [n for n in without if n.startswith("network") and n.find("kernel") > 0]
    assert weights and not any(np.array_equal(without[n], with_teachers[n]) for n in weights)


# --- stopped, killed, run again ----------------------------------------------------------------


def test_a_finished_run_does_nothing_again(finished, sources, capsys):
    folder = finished("vitbert")
    before = files_below(folder)
    capsys.readouterr()
    assert pretrain(sources, folder, "--variant=vitbert") == EXIT_DONE
    assert files_below(folder) == before
    out, err = capsys.readouterr()
    assert "10 steps are done" in err
    assert out.strip() == report(summary_of(folder), folder)


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
    assert len(os.listdir(folder / "checkpoints")) == 3  # LAST, and as many as are to be kept


@pytest.fixture
def signal_at(monkeypatch):
    """`signal_at(place, variant, step)`: SIGTERM once, when training comes there.

    The places are `batch` (the step's update is done, nothing is looked at yet) and `after` (all
    is done that is done at the end of an epoch). The student of a joint run is `joint`.
    """
    wanted = []

    def hook(cls, method, place):
        original = getattr(cls, method)

        def hooked(self, number, logs=None):
            if place == "after":
                original(self, number, logs)
            modalities = (self.model.has_images, self.model.has_text)
            variant = {(True, False): "vit", (False, True): "bert"}.get(modalities, "joint")
            if wanted == [(place, variant, self.model.step)]:
                wanted.clear()
                os.kill(os.getpid(), signal.SIGTERM)
            if place == "batch":
                original(self, number, logs)

        monkeypatch.setattr(cls, method, hooked)

    hook(callbacks.DivergenceGuard, "on_train_batch_end", "batch")
    hook(callbacks.Checkpoints, "on_epoch_end", "after")

    def signal_at(*place):
        wanted[:] = [place]
        return wanted

    return signal_at


def last_step(folder):
    return checkpoints.latest(str(folder / "checkpoints"))[1]


@pytest.mark.slow
def test_stopped_in_its_teachers_and_itself_it_ends_the_same(
    finished, sources, tmp_path, signal_at, capsys
):
    folder = tmp_path / "run"
    vit, bert = folder / "teachers" / "vit", folder / "teachers" / "bert"

    def run(*place):
        signal_at(*place)
        capsys.readouterr()
        status = pretrain(sources, folder, "--variant=vitbert")
        return status, capsys.readouterr().err.splitlines()[-1]

    status, line = run("batch", "vit", 2)  # between two checkpoints
    assert status == EXIT_STOPPED and line.startswith("stopped: at step 2, saved in")
    assert line.endswith("run the same command again")
    assert last_step(vit) == 2 and not (vit / "summary.json").exists() and not bert.exists()

    status, line = run("batch", "bert", 4)  # its last step: it is finished, the student not begun
    assert status == EXIT_STOPPED and line.startswith("stopped: before training began")
    assert (bert / "summary.json").exists() and last_step(folder) == 0
    teachers = files_below(folder / "teachers")

    status, line = run("batch", "joint", 3)  # masks half done, the epoch too
    assert status == EXIT_STOPPED and line.startswith("stopped: at step 3")
    assert last_step(folder) == 3 and not (folder / "summary.json").exists()

    status, line = run()
    assert status == EXIT_DONE
    assert files_below(folder / "teachers") == teachers  # not trained again
    assert summary_of(folder)["resumed_from_step"] == 3
    wanted = finished("vitbert", own_teachers=True)
    assert_same_run(folder, wanted)
    for name in ("vit", "bert"):
        both = folder / "teachers" / name, wanted / "teachers" / name
        assert_same_values(*map(checkpoint_values, both))
        assert metrics_rows(both[0]) == metrics_rows(both[1])
        assert len({json.dumps(without_clock(summary_of(run))) for run in both}) == 1


@pytest.mark.slow
def test_stopped_about_the_ends_of_epochs(finished, sources, tmp_path, signal_at, capsys):
    """Before, at and after: the same run is stopped three times."""
    began = 0
    for place, step, stops_at in (
        ("batch", 3, 3),  # before the last step of an epoch
        ("batch", 4, 4),  # in it: validation and log come first
        ("after", 8, 9),  # after it: as soon as one more step is done
    ):
        signal_at(place, "vit", step)
        assert pretrain(sources, tmp_path, "--variant=vit") == EXIT_STOPPED
        assert last_step(tmp_path) == stops_at > began
        assert metrics_rows(tmp_path) == metrics_rows(finished("vit"))[: stops_at // 4]
        began = stops_at
    two = ["--config.steps_per_execution=2", "--config.teachers.image_steps=4"]
    assert pretrain(sources, tmp_path, "--variant=vit", *two) == EXIT_BAD_INPUT
    refusal = (
        "--config.steps_per_execution=2: the run goes on at step 9, which is no multiple of it"
    )
    assert refusal in capsys.readouterr().err
    assert pretrain(sources, tmp_path, "--variant=vit") == EXIT_DONE
    assert summary_of(tmp_path)["resumed_from_step"] == 9
    assert_same_run(tmp_path, finished("vit"))


@pytest.mark.slow
def test_a_signal_in_the_last_step_is_too_late(finished, sources, tmp_path, signal_at):
    unsent = signal_at("batch", "vit", STEPS)
    assert pretrain(sources, tmp_path, "--variant=vit") == EXIT_DONE
    assert not unsent
    assert_same_run(tmp_path, finished("vit"))


KILLED = """
import os, signal, sys
from keras_vitbert import pretrain
from keras_vitbert.runs import callbacks
from pipelines import command_line

write = callbacks.RunLog.on_epoch_end

def killed(self, epoch, logs=None):
    write(self, epoch, logs)
    if self.model.step == 8:
        os.kill(os.getpid(), signal.SIGKILL)

callbacks.RunLog.on_epoch_end = killed
command_line.run(pretrain.main, sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["bert", "vitbert_no_kd"])
def test_killed_it_goes_on_from_the_last_checkpoint(finished, sources, tmp_path, variant):
    """Killed after metrics.csv has got ahead of the checkpoints, the last one within an epoch."""
    folder = tmp_path / "run"
    flags = [f"--variant={variant}", "--config.checkpoint_interval=3"]
    argv = arguments(sources, f"--output_dir={folder}", *flags)
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *argv], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [int(row["step"]) for row in metrics_rows(folder)] == [4, 8]
    assert last_step(folder) == 6
    # What another kill would leave: half a checkpoint.
    half = folder / "checkpoints" / "step-00000008"
    shutil.copytree(folder / "checkpoints" / "step-00000006", half)
    (half / "state.index").write_bytes(b"half")

    assert pretrain(sources, folder, *flags[:1]) == EXIT_DONE
    assert summary_of(folder)["resumed_from_step"] == 6
    assert_same_run(folder, finished(variant))


@pytest.mark.slow
def test_steps_of_one_execution_make_the_same_numbers(finished, sources, tmp_path):
    """Executions of two steps: masks, logs and checkpoints fall between them."""
    flags = ["--variant=vitbert_no_kd", "--config.teachers.image_steps=4"]
    assert pretrain(sources, tmp_path, *flags, "--config.steps_per_execution=2") == EXIT_DONE
    found, wanted = (checkpoint_values(run) for run in (tmp_path, finished("vitbert_no_kd")))
    # Probes look at another step, and only they. Of the first epoch that is step 3 instead of 4.
    probes = ("text_gradient_norm", "image_gradient_norm", "gradient_cosine")
    for ours, theirs in zip(
        metrics_rows(tmp_path), metrics_rows(finished("vitbert_no_kd")), strict=True
    ):
        for name in probes:
            del ours[name], theirs[name]
        assert ours == theirs
    looks = tensorboard_scalars(tmp_path)["train", "gradient_conflict/cosine/all"]
    assert sorted(looks) == [3, 7, 9]
    assert_same_inspection(tmp_path, finished("vitbert_no_kd"))


# --- on several devices ------------------------------------------------------------------------

REPLICAS = """
import sys
import tensorflow as tf

replicas = int(sys.argv[1])
[cpu] = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)

from keras_vitbert import pretrain

from pipelines import command_line

devices = [f"CPU:{index}" for index in range(replicas)]
pretrain.get_strategy = lambda *flags: tf.distribute.MirroredStrategy(devices)
sys.exit(command_line.run(pretrain.main, sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_make_the_same_numbers(finished, sources, tmp_path, replicas):
    """Losses and validations of every epoch too: the replicas hold unequal numbers of words."""
    flags = ["--variant=vitbert_no_kd", "--config.model.dropout=0"]
    wanted = finished(*[flag.removeprefix("--variant=") for flag in flags])
    argv = arguments(sources, f"--output_dir={tmp_path}", *flags)
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS, str(replicas), *argv],
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == EXIT_DONE and f"on each of {replicas} replicas" in done.stderr, (
        done.stderr
    )
    for ours, theirs in zip(metrics_rows(tmp_path), metrics_rows(wanted), strict=True):
        for name in theirs:
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-4, abs=1e-6)
    found, expected = checkpoint_values(tmp_path), checkpoint_values(wanted)
    assert set(found) == set(expected)
    for name, value in expected.items():
        if not name.startswith("metrics"):
            np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    # What is looked at are the gradients of all replicas.
    assert_same_inspection(tmp_path, wanted, "masks")
    looks = [tensorboard_scalars(run) for run in (tmp_path, wanted)]
    for key, values in looks[1].items():
        if "gradient_conflict" in key[1] and "opposite" not in key[1]:
            assert looks[0][key] == pytest.approx(values, rel=1e-3, abs=1e-5)


# --- diverged ----------------------------------------------------------------------------------


def test_a_learning_rate_far_too_high(sources, tmp_path, capsys):
    flags = ["--variant=vit", "--config.optimizer.learning_rate=1e30"]
    flags += ["--config.checkpoint_interval=1"]
    assert pretrain(sources, tmp_path, *flags) == EXIT_DIVERGED
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("diverged: ") and "learning_rate" in line and "step 3" in line
    assert not (tmp_path / "summary.json").exists()
    assert last_step(tmp_path) == 2
    assert all(np.isfinite(v).all() for v in checkpoint_values(tmp_path).values())
    load(str(tmp_path))


@pytest.mark.slow
def test_the_last_good_checkpoint_is_kept(sources, finished, tmp_path, monkeypatch):
    original = callbacks.Throughput.on_train_batch_begin

    def poison(self, batch, logs=None):
        if self.model.step == 9:
            weight = self.model.network.trainable_variables[0]
            weight.assign(np.full(weight.shape, np.nan))
        original(self, batch, logs)

    with monkeypatch.context() as patched:
        patched.setattr(callbacks.Throughput, "on_train_batch_begin", poison)
        assert pretrain(sources, tmp_path, "--variant=vit") == EXIT_DIVERGED
    assert last_step(tmp_path) == 8
    assert pretrain(sources, tmp_path, "--variant=vit") == EXIT_DONE
    assert_same_run(tmp_path, finished("vit"))

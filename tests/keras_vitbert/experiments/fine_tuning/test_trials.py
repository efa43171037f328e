"""A trial: its folder, the stream of its examples, its initial weights, which of them move."""

import itertools
import types

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs import fine_tuning
from keras_vitbert.experiments.fine_tuning.task_data import open_task
from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from keras_vitbert.experiments.fine_tuning.trainer import layer_depths
from keras_vitbert.experiments.fine_tuning.trials import TaskStream
from keras_vitbert.training import step_context
from keras_vitbert.training.backends import tensorflow as backend
from tests.keras_vitbert.tiny_runs import VOCABULARY

BATCH = 4


@pytest.fixture(scope="module")
def splits(text_task, image_task):
    """The training split of each kind of task."""
    opened = {}
    for name, folder in (("texts", text_task), ("images", image_task)):
        values = {"bucket_boundaries": (10,)}
        if name == "images":
            values = {"image_size": 6, "images.crop_area": (0.08, 1.0)}
        config = fine_tuning.get_config(name, TASKS[name].kind).with_values(values)
        opened[name] = open_task(TASKS[name], config, VOCABULARY, 16, str(folder)).train
    return opened


def batches(split, step, count):
    stream = TaskStream([split], [BATCH], seed=3, steps=9)
    found = list(itertools.islice(stream.training(step, None), count))
    return stream, [{name: value.numpy() for name, value in batch.items()} for batch in found]


@pytest.mark.parametrize("name", ["texts", "images"])
def test_a_stream_goes_on_where_it_was_left(splits, name):
    stream, whole = batches(splits[name], 0, 9)
    _, rest = batches(splits[name], 4, 5)
    for ours, theirs in zip(rest, whole[4:], strict=True):
        assert set(ours) == set(theirs)
        for key in ours:
            np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)
    assert {len(batch[f"{name[:-1]}_labels"]) for batch in whole} == {BATCH}
    if name == "texts":
        lengths = [batch["token_ids"].shape[1] for batch in whole]
        assert set(lengths[4:]) == {10, 16}
        assert stream.tokens_per_step == round(BATCH * np.mean(lengths))
        assert stream.images_per_step == 0
    else:
        assert (stream.images_per_step, stream.tokens_per_step) == (BATCH, 0)


@pytest.mark.parametrize("name", ["texts", "images"])
def test_an_example_drops_the_same_units_on_any_number_of_hosts(
    splits, make_tuner, monkeypatch, name
):
    stream, tuner = TaskStream([splits[name]], [6], seed=3, steps=9), make_tuner(name[:-1])

    def drawn(hosts):
        """What is drawn for each example of a batch, by its content."""
        monkeypatch.setattr(backend, "_hosts", lambda strategy: hosts)
        found = {}
        for host in range(hosts):
            replica = types.SimpleNamespace(
                replica_id_in_sync_group=tf.constant(host),
                num_replicas_in_sync=hosts,
                strategy=None,
            )
            monkeypatch.setattr(tf.distribute, "get_replica_context", lambda at=replica: at)
            context = tf.distribute.InputContext(hosts, host, hosts)
            batch = next(iter(stream.training(1, context)))
            with tuner.dropout.keyed(0):
                keys = step_context.value_of("keys")
                rows = backend.keep_mask(tf.ones((6 // hosts, 50)), keys, 0, 0.5).numpy()
            examples = batch["images" if name == "images" else "token_ids"].numpy()
            found |= {e.tobytes(): r.tolist() for e, r in zip(examples, rows, strict=True)}
        return found

    whole = drawn(1)
    assert len({tuple(row) for row in whole.values()}) == 6
    assert drawn(2) == drawn(3) == whole


def values(tuner):
    return [np.asarray(v.value, np.float64) for v in tuner.network.trainable_variables]


def run_step(tuner, batch):
    return tuner.train_step({name: tf.constant(value) for name, value in batch.items()})


def test_lower_layers_are_trained_less(make_tuner, labelled_batches):
    """One step of each: every variable moves by its part, weight decay included."""
    options = {"name": "adamw", "learning_rate": 0.01, "warmup": 0, "weight_decay": 0.1}
    moved = []
    for layer_decay in (1.0, 0.5):
        tuner = make_tuner("text", layer_decay=layer_decay, **options)
        before = values(tuner)
        run_step(tuner, labelled_batches[0])
        moved.append([new - old for new, old in zip(values(tuner), before, strict=True)])
    paths = [variable.path for variable in tuner.network.trainable_variables]
    depth = {"text_embedding": 0, "block_0": 1, "block_1": 2, "final_norm": 3, "head": 3}
    for path, all_of_it, part in zip(paths, *moved, strict=True):
        scale = 0.5 ** (3 - depth[path.split("/")[0]])
        np.testing.assert_allclose(part, scale * all_of_it, rtol=1e-3, atol=2e-7, err_msg=path)
    assert layer_depths(tuner.network) == [depth[path.split("/")[0]] for path in paths]


def test_low_rank_updates_leave_the_encoder_alone(make_tuner, labelled_batches):
    tuner = make_tuner("text", lora_rank=2, warmup=0, learning_rate=0.1)
    trained = {v.path for v in tuner.network.trainable_variables}
    # A and B of query and value in both blocks, and the biases of these; the head.
    inner = sorted(path.split("/")[-1] for path in trained if not path.startswith("head/"))
    assert inner == ["bias"] * 4 + ["lora_kernel_a"] * 4 + ["lora_kernel_b"] * 4
    assert len(trained) == 12 + 4
    depths = [v.path.split("/")[0] for v in tuner.network.trainable_variables]
    wanted = {"block_0": 1, "block_1": 2, "head": 3}
    assert layer_depths(tuner.network) == [wanted[part] for part in depths]
    frozen = {v.path: np.asarray(v.value) for v in tuner.network.non_trainable_variables}
    before = np.asarray(tuner.network(labelled_batches[0]))
    for batch in labelled_batches:
        run_step(tuner, batch)
    for variable in tuner.network.non_trainable_variables:
        if not variable.path.startswith("dropout"):
            np.testing.assert_array_equal(np.asarray(variable.value), frozen[variable.path])
    assert np.abs(np.asarray(tuner.network(labelled_batches[0])) - before).max() > 0.01

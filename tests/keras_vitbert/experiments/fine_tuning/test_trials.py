"""A trial: its folder, the stream of its examples, and its initial weights."""

import hashlib
import itertools
import json
import pathlib
import types

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs import fine_tuning
from keras_vitbert.experiments.fine_tuning.prediction_files import collect
from keras_vitbert.experiments.fine_tuning.pretrained import RANDOM, Pretrained
from keras_vitbert.experiments.fine_tuning.task_data import open_task
from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from keras_vitbert.experiments.fine_tuning.trainer import build_fine_tuner
from keras_vitbert.experiments.fine_tuning.trials import TaskStream, Trial, run_trial
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.training import pass_scope
from keras_vitbert.training.engines import tensorflow as engine
from tests.keras_vitbert.tiny_runs import VOCABULARY, content_of

SAVED = pathlib.Path(__file__).parents[2] / "trained/saved/fine_tuned_images/trials"
SAVED /= "seed-rate-0.01-seed-0"
BATCH = 4


@pytest.fixture(scope="module")
def splits(text_task, image_task):
    """The training split of each kind of task."""
    opened = {}
    for name, folder in (("texts", text_task), ("images", image_task)):
        values = {"buckets": (10,)}
        if name == "images":
            values = {"image_size": 6, "images.crop_area": (0.08, 1.0)}
        config = fine_tuning.get_config(name, TASKS[name].kind).with_values(values)
        opened[name] = open_task(TASKS[name], config, VOCABULARY, 16, str(folder)).train
    return opened


def test_what_is_finished_is_not_trained_again(tmp_path):
    trial = Trial("seed", 3e-05, 2)
    assert trial.name == "seed-rate-3e-05-seed-2"
    folder = tmp_path / "trials" / trial.name
    folder.mkdir(parents=True)
    result = content_of(SAVED / "result.json") | vars(trial)
    (folder / "result.json").write_text(json.dumps(result))
    # It needs only the folder.
    run = types.SimpleNamespace(
        workers=types.SimpleNamespace(is_chief=True),
        data=types.SimpleNamespace(classes=["a", "b"]),
        folder=RunFolder(str(tmp_path)),
    )
    assert run_trial(run, trial, None, {"validation": None}) == result
    for change in ({"splits": {}}, {"seed": 3}):
        (folder / "result.json").write_text(json.dumps(result | change))
        with pytest.raises(ValueError, match="result.json"):
            run_trial(run, trial, None, {"validation": None})
    (folder / "result.json").unlink()
    (folder / "seconds.txt").write_text("3.x")
    with pytest.raises(ValueError, match="seconds.txt"):
        run_trial(run, trial, None, {"validation": None})


def batches(split, step, count):
    stream = TaskStream(split, seed=3, steps=9, batch=BATCH)
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
    assert {len(batch["labels"]) for batch in whole} == {BATCH}
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
    stream, tuner = TaskStream(splits[name], seed=3, steps=9, batch=6), make_tuner(TASKS[name].kind)

    def drawn(hosts):
        """What is drawn for each example of a batch, by its content."""
        monkeypatch.setattr(engine, "_hosts", lambda strategy: hosts)
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
                keys = pass_scope.present("keys")
                rows = engine.kept(tf.ones((6 // hosts, 50)), keys, 0, 0.5).numpy()
            examples = batch["images" if name == "images" else "token_ids"].numpy()
            found |= {e.tobytes(): r.tolist() for e, r in zip(examples, rows, strict=True)}
        return found

    whole = drawn(1)
    assert len({tuple(row) for row in whole.values()}) == 6
    assert drawn(2) == drawn(3) == whole


@pytest.mark.parametrize("kind", ["images", "text"])
def test_a_seed_is_the_same_weights(tiny, kind):
    size = {"image_size": 6} if kind == "images" else {}
    config = fine_tuning.get_config("", kind).with_values({"steps": 3, "dtype": "float32", **size})
    pretrained = Pretrained(RANDOM, "x", 0, "sha", tiny, None, None)

    def weights(seed):
        strategy = tf.distribute.get_strategy()
        trainer, done = build_fine_tuner(config, pretrained, 3, seed, strategy)
        assert done == {"encoder": "fresh", "embedding": "fresh", "head": "fresh"}
        return [np.asarray(v.value) for v in trainer.network.trainable_variables]

    first, again, other = weights(1), weights(1), weights(2)
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    random = [n for n, value in enumerate(first) if np.ptp(value) > 0]
    assert len(random) > 10
    assert all(not np.array_equal(first[n], other[n]) for n in random)


def test_predictions_that_are_not_the_trial_s_are_refused(tmp_path):
    trial = RunFolder(str(tmp_path / "trials" / SAVED.name))
    tf.io.gfile.makedirs(trial.path)
    text = "split,index\nvalidation,0\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    trial.write_json(
        "result.json", content_of(SAVED / "result.json") | {"predictions_sha256": digest}
    )
    summary = {"trials": [f"trials/{SAVED.name}"], "seeds": [0]}
    path = tmp_path / "all.csv"
    trial.write("predictions.csv", text)
    collect(str(path), str(tmp_path), summary)
    assert path.read_text() == "seed,split,index\n0,validation,0\n"
    path.unlink()
    for damaged in (text.replace("0", "1"), "", None):
        if damaged is None:
            (tmp_path / "trials" / SAVED.name / "predictions.csv").unlink()
        else:
            trial.write("predictions.csv", damaged)
        with pytest.raises(ValueError, match="predictions.csv"):
            collect(str(path), str(tmp_path), summary)
        assert not path.exists()

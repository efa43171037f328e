import contextlib
import gc
import os
import pathlib
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.experiments.pretraining.data import open_data
from keras_vitbert.experiments.pretraining.trainer import build_trainer
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.runs import checkpoints
from pipelines.files import write_atomically
from tests.keras_vitbert.tiny_runs import config_of

VARIANT = "vitbert_no_kd"


def all_values(trainer):
    """Everything that training changes: dict of name to array."""
    parts = {
        "network": trainer.network.variables,
        "optimizer": trainer.optimizer.variables,
        "merge": trainer.merge.variables,
        "metrics": [variable for mean in trainer.metrics for variable in mean.variables],
    }
    return {
        f"{part} {number} {re.sub('_?[0-9]+', '', variable.path)}": variable.numpy()
        for part, variables in parts.items()
        for number, variable in enumerate(variables)
    }


def assert_same(first, second):
    assert list(first) == list(second)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


@pytest.fixture(scope="module")
def config(sources):
    return config_of(sources, "--config.merge.name=random_mask", variant=VARIANT)


def untraced(config):
    """A trainer; without tracing a few steps take less time."""
    trainer = build_trainer(config, tf.distribute.get_strategy())
    trainer.run_eagerly = True
    return trainer


@pytest.fixture(scope="module")
def fresh(config):
    """A trainer of the same config, for whatever is restored."""
    return untraced(config)


@pytest.fixture(scope="module")
def stream(config):
    return open_data(config).stream(config)


def train(trainer, stream, steps):
    """Some steps, masks cleared in each, without resetting the metrics at the end."""
    trainer.make_train_function()
    iterator = iter(stream.training(trainer.step))
    for _ in range(steps):
        trainer.request_gradient_stats(clear=7)
        trainer.train_function(iterator)


@pytest.fixture(scope="module")
def trained(config, stream):
    trainer = untraced(config)
    train(trainer, stream, 2)
    return trainer


def test_another_trainer_goes_on_to_the_bit(trained, fresh, stream, tmp_path):
    """Weights, optimizer, masks, random generators, metrics and step, by what comes after.

    `test_pretrain_again` shows the same of compiled steps.
    """
    checkpoints.write(str(tmp_path), checkpoints.snapshot(trained), keep=1)
    path, step = checkpoints.latest(str(tmp_path))
    assert (path, step) == (str(tmp_path / "step-00000002"), 2)

    wanted = all_values(trained)
    masks = [name for name in wanted if "mask_" in name]
    assert sum(np.count_nonzero(~wanted[name]) for name in masks) == 2 * 7
    checkpoints.restore(path, fresh)
    assert fresh.step == 2
    assert_same(all_values(fresh), wanted)

    train(fresh, stream, 1)
    train(trained, stream, 1)
    assert_same(all_values(fresh), all_values(trained))


@contextlib.contextmanager
def moving(trainer):
    """Gives a function that makes it a trainer at another step, until the end."""
    before = trainer.step, int(trainer.anomaly_guard.in_a_row.numpy())

    def move(step, in_a_row=0):
        trainer.step = step
        trainer.optimizer.iterations.assign(step)
        trainer.anomaly_guard.in_a_row.assign(in_a_row)

    try:
        yield move
    finally:
        move(*before)


def test_old_checkpoints_go(trained, tmp_path):
    folder = str(tmp_path)
    with moving(trained) as move:
        for step in (5, 10, 15, 20):
            move(step)
            checkpoints.write(folder, checkpoints.snapshot(trained), keep=2)
        assert sorted(os.listdir(folder)) == ["LAST", "step-00000015", "step-00000020"]
        move(25)
        checkpoints.write(folder, checkpoints.snapshot(trained), keep=1)
        assert sorted(os.listdir(folder)) == ["LAST", "step-00000025"]
        # One that a user went back to is not removed for the newer ones that are still there.
        move(7)
        checkpoints.write(folder, checkpoints.snapshot(trained), keep=1)
        assert checkpoints.latest(folder) == (os.path.join(folder, "step-00000007"), 7)
        move(8)
        checkpoints.write(folder, checkpoints.snapshot(trained), keep=2)  # nor counted
        names = ["LAST", "step-00000007", "step-00000008", "step-00000025"]
        assert sorted(set(os.listdir(folder)) - {"GOOD"}) == names


def test_an_older_checkpoint_takes_the_place_of_a_damaged_one(trained, fresh, tmp_path, capsys):
    folder = str(tmp_path)
    with moving(trained) as move:
        for step in (3, 9, 5):
            move(step)
            checkpoints.write(folder, checkpoints.snapshot(trained), keep=3)
    assert checkpoints.restore_newest(folder, fresh) == 5  # not that which is newer
    (tmp_path / "LAST").write_text("step-00000009\n")
    assert checkpoints.restore_newest(folder, fresh) == fresh.step == 9
    assert capsys.readouterr().err == ""
    damage_flip(tmp_path / "step-00000009" / "state.data-00000-of-00001")
    good = tmp_path / "GOOD"
    good.write_text("step-00000009\n")
    assert checkpoints.restore_newest(folder, fresh, writes=False) == 5 and good.exists()
    assert checkpoints.restore_newest(folder, fresh) == fresh.step == 5
    assert not good.exists()  # or `go_back` would read it
    weights = "network 0 image_embedding/class_token"
    np.testing.assert_array_equal(all_values(fresh)[weights], all_values(trained)[weights])
    assert "step-00000009 is damaged" in capsys.readouterr().err
    assert checkpoints.latest(folder) == (os.path.join(folder, "step-00000005"), 5)
    shutil.copy(tmp_path / "step-00000003" / "step.json", tmp_path / "step-00000005")  # a swap
    assert checkpoints.restore_newest(folder, fresh) == 3
    # A pointer that cannot be read may have named the newest.
    (tmp_path / "LAST").write_bytes(b"\xff")
    assert checkpoints.restore_newest(folder, fresh) == 3
    assert (tmp_path / "LAST").read_text() == "step-00000003\n"
    (tmp_path / "step-00000003" / "state.index").unlink()
    with pytest.raises(ValueError, match="step-00000003"):
        checkpoints.restore_newest(folder, fresh)


def test_what_a_killed_run_was_writing_is_ignored_and_written_over(
    trained, fresh, tmp_path, monkeypatch
):
    folder = str(tmp_path)
    writes_left = []

    def killed(path, text):
        if not writes_left:
            raise KeyboardInterrupt
        write_atomically(path, text)
        writes_left.pop()

    monkeypatch.setattr(checkpoints, "write_atomically", killed)
    with moving(trained) as move:
        expected = (None, 0)
        for step, writes in ((5, 0), (5, 1), (5, 2), (9, 0), (9, 1)):
            move(step)
            writes_left[:] = [None] * writes
            if writes < 2:
                with pytest.raises(KeyboardInterrupt):
                    checkpoints.write(folder, checkpoints.snapshot(trained), keep=1)
            else:
                checkpoints.write(folder, checkpoints.snapshot(trained), keep=1)
                expected = (os.path.join(folder, "step-00000005"), 5)
            assert checkpoints.latest(folder) == expected
        assert sorted(os.listdir(folder)) == ["LAST", "step-00000005", "step-00000009"]
        checkpoints.restore(expected[0], fresh)
        move(5)
        assert_same(all_values(fresh), all_values(trained))


def damage_flip(path):
    """In the first quarter of the data, which holds the network's weights."""
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 0x10
    path.write_bytes(content)


def damage_cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "file"),
    [(damage_cut, "data-00000-of-00001"), (damage_flip, "index")],
)
def test_a_damaged_file_is_told(trained, tmp_path, damage, file):
    checkpoints.write(str(tmp_path), checkpoints.snapshot(trained), keep=1)
    path, _ = checkpoints.latest(str(tmp_path))
    damage(pathlib.Path(path) / f"state.{file}")
    with pytest.raises(ValueError, match=str(path)):
        checkpoints.restore(path, trained)
    with pytest.raises(ValueError, match=str(path)):
        checkpoints.restore_network(path, trained.network)


@pytest.mark.parametrize("change", [{"hidden_dim": 16}, {"num_layers": 2}])
def test_another_model_is_told(trained, config, tmp_path, change, caplog):
    """Also one of which the network is a part: it would answer, and wrongly."""
    other = build_network({**config.model.to_dict(), **change})
    checkpoints.write_weights(str(tmp_path), other, 3)
    path, _ = checkpoints.latest(str(tmp_path))
    with pytest.raises(ValueError, match=str(path)):
        checkpoints.restore_network(path, trained.network)
    with pytest.raises(ValueError, match=str(path)):
        checkpoints.restore(path, trained)
    # TensorFlow has not begun to read, after which it would print a page of warnings.
    gc.collect()
    assert not caplog.records

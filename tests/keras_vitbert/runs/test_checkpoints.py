"""Checkpoints: all that training changes comes back, old ones go, and damage is told."""

import gc
import os
import pathlib
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.experiments.pretraining.trainer import build_trainer
from keras_vitbert.runs import checkpoints
from pipelines.files import write_atomically
from tests.keras_vitbert.runs.plain_trainer import Trainer
from tests.keras_vitbert.tiny_runs import config_of


def variables_of(trainer):
    """Everything that training changes: dict of name to variable."""
    parts = {
        "network": trainer.network.variables,
        "optimizer": trainer.optimizer.variables,
        "merge": trainer.merge.variables,
        "metrics": [variable for mean in trainer.metrics for variable in mean.variables],
    }
    return {
        f"{part} {number} {re.sub('_?[0-9]+', '', variable.path)}": variable
        for part, variables in parts.items()
        for number, variable in enumerate(variables)
    }


def test_all_that_training_changes_comes_back(sources, tmp_path):
    """Also masks and random generators; `test_pretrain_again` shows that a run ends the same."""
    flags = "--config.merge.name=random_mask"
    config, random = config_of(sources, flags, variant="vitbert_no_kd"), np.random.default_rng(0)
    one, other = (build_trainer(config, tf.distribute.get_strategy()) for _ in range(2))
    for variable in variables_of(one).values():
        value = np.asarray(variable.value)
        variable.assign(random.integers(0, 2, value.shape).astype(value.dtype))
    one.step = 3
    one.optimizer.iterations.assign(one.step)
    checkpoints.write(str(tmp_path), checkpoints.snapshot(one), keep=1)
    checkpoints.restore(str(tmp_path / "step-00000003"), other)
    assert other.step == 3
    found, wanted = variables_of(other), variables_of(one)
    assert list(found) == list(wanted) and any("mask_" in name for name in found)
    for name, variable in wanted.items():
        np.testing.assert_array_equal(found[name].value, variable.value, err_msg=name)


def save(folder, step, keep):
    checkpoints.write(str(folder), checkpoints.snapshot(Trainer(step)), keep)


def test_old_checkpoints_go(tmp_path):
    for step in (5, 10, 15, 20):
        save(tmp_path, step, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["LAST", "step-00000015", "step-00000020"]
    save(tmp_path, 25, keep=1)
    assert sorted(os.listdir(tmp_path)) == ["LAST", "step-00000025"]
    # One that a user went back to is not removed for the newer ones that are still there.
    save(tmp_path, 7, keep=1)
    assert checkpoints.latest(str(tmp_path)) == (str(tmp_path / "step-00000007"), 7)
    save(tmp_path, 8, keep=2)  # nor counted
    names = ["LAST", "step-00000007", "step-00000008", "step-00000025"]
    assert sorted(os.listdir(tmp_path)) == names


def damage_flip(path):
    """In the first half of the data, which holds the network's weights."""
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 0x10
    path.write_bytes(content)


def damage_cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_an_older_checkpoint_takes_the_place_of_a_damaged_one(tmp_path, capsys):
    folder, trainer, good = str(tmp_path), Trainer(), tmp_path / "GOOD"
    assert checkpoints.restore_newest(folder, trainer) == 0
    for step in (3, 9, 5):
        save(tmp_path, step, keep=3)
    assert checkpoints.restore_newest(folder, trainer) == 5  # not that which is newer
    (tmp_path / "LAST").write_text("step-00000009\n")
    assert checkpoints.restore_newest(folder, trainer) == trainer.step == 9
    assert capsys.readouterr().err == ""
    damage_flip(tmp_path / "step-00000009" / "state.data-00000-of-00001")
    good.write_text("step-00000009\n")
    assert checkpoints.restore_newest(folder, trainer, writes=False) == 5 and good.exists()
    assert checkpoints.restore_newest(folder, trainer) == trainer.step == 5
    assert not good.exists()  # or `go_back` would read it
    assert "step-00000009 is damaged" in capsys.readouterr().err
    assert checkpoints.latest(folder) == (str(tmp_path / "step-00000005"), 5)
    shutil.copy(tmp_path / "step-00000003" / "step.json", tmp_path / "step-00000005")  # a swap
    assert checkpoints.restore_newest(folder, trainer) == 3
    # A pointer that cannot be read may have named the newest.
    (tmp_path / "LAST").write_bytes(b"\xff")
    assert checkpoints.restore_newest(folder, trainer) == 3
    assert (tmp_path / "LAST").read_text() == "step-00000003\n"
    (tmp_path / "step-00000003" / "state.index").unlink()
    with pytest.raises(ValueError, match="step-00000003"):
        checkpoints.restore_newest(folder, trainer)


def test_what_a_killed_run_was_writing_is_ignored_and_written_over(tmp_path, monkeypatch):
    writes_left, expected = [], (None, 0)

    def killed(path, text):
        if not writes_left:
            raise KeyboardInterrupt
        write_atomically(path, text)
        writes_left.pop()

    monkeypatch.setattr(checkpoints, "write_atomically", killed)
    for step, writes in ((5, 0), (5, 1), (5, 2), (9, 0), (9, 1)):
        writes_left[:] = [None] * writes
        if writes < 2:
            with pytest.raises(KeyboardInterrupt):
                save(tmp_path, step, keep=1)
        else:
            save(tmp_path, step, keep=1)
            expected = str(tmp_path / "step-00000005"), 5
        assert checkpoints.latest(str(tmp_path)) == expected
    assert sorted(os.listdir(tmp_path)) == ["LAST", "step-00000005", "step-00000009"]


@pytest.mark.parametrize(
    ("damage", "file"),
    [(damage_cut, "data-00000-of-00001"), (damage_flip, "index")],
)
def test_a_damaged_file_is_told(tmp_path, damage, file):
    trainer = Trainer()
    save(tmp_path, 3, keep=1)
    path = str(tmp_path / "step-00000003")
    damage(pathlib.Path(path) / f"state.{file}")
    with pytest.raises(ValueError, match=path):
        checkpoints.restore(path, trainer)
    with pytest.raises(ValueError, match=path):
        checkpoints.restore_network(path, trainer.network)


@pytest.mark.parametrize("change", [{"hidden_dim": 16}, {"num_layers": 3}])
def test_another_model_is_told(network, make_network, tmp_path, change, caplog):
    """Also one of which the network is a part: it would answer, and wrongly."""
    checkpoints.write_weights(str(tmp_path), make_network(**change), 3)
    path = str(tmp_path / "step-00000003")
    with pytest.raises(ValueError, match=path):
        checkpoints.restore_network(path, network)
    with pytest.raises(ValueError, match="weights alone"):
        checkpoints.restore(path, Trainer())
    # TensorFlow has not begun to read, after which it would print a page of warnings.
    gc.collect()
    assert not caplog.records

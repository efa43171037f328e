"""Runs of `pretrain` that are stopped, killed or diverge, and run again."""

import json
import shutil
import signal

import numpy as np
import pytest

from keras_vitbert import load
from keras_vitbert.runs import callbacks
from pipelines.command_line import EXIT_DIVERGED, EXIT_DONE, EXIT_STOPPED
from tests.forked import Forked
from tests.keras_vitbert.killed import pretrain_with_signal, signal_at
from tests.keras_vitbert.tiny_runs import (
    CLASS_NAMES,
    arguments,
    assert_same_values,
    checkpoint_values,
    content_of,
    files_below,
    metrics_rows,
    pretrain,
    summary_of,
)
from tests.keras_vitbert.whole_runs import (
    assert_same_run,
    last_step,
    shown_points,
    without_clock,
)


def test_names_of_classes_that_are_given_later_belong_to_the_run(unfinished, sources):
    record = content_of(unfinished / "config.json")
    del record["inputs"]["classes"]
    (unfinished / "config.json").write_text(json.dumps(record))
    (unfinished / "classes.txt").unlink()
    assert load(str(unfinished)).classes is None
    assert pretrain(sources, unfinished, "--variant=vit") == EXIT_DONE
    assert load(str(unfinished)).classes == CLASS_NAMES


def test_a_finished_run_does_nothing_again(finished, sources, capsys):
    folder = finished("joint")
    before = files_below(folder)
    assert pretrain(sources, folder, "--variant=joint") == EXIT_DONE
    assert files_below(folder) == before
    value = summary_of(folder)["validation"]["mlm_accuracy"]
    assert f"{value:.4f}" in capsys.readouterr().out


@pytest.mark.slow
def test_stopped_in_its_teachers_and_itself_it_ends_the_same(finished, sources, tmp_path):
    folder = tmp_path / "run"
    vit, bert = folder / "teachers" / "vit", folder / "teachers" / "bert"

    def stop(step, run):
        signal_at(step, signal.SIGTERM, str(run))
        assert pretrain(sources, folder, "--variant=vitbert") == EXIT_STOPPED

    stop(2, vit)  # between two checkpoints
    assert last_step(vit) == 2 and not (vit / "summary.json").exists() and not bert.exists()
    assert not (folder / "config.json").exists()  # the student has not begun
    stop(4, bert)  # its last step: it is finished, the student not begun
    assert (bert / "summary.json").exists() and last_step(folder) == 0
    teachers = files_below(folder / "teachers")
    stop(3, folder)  # masks half done, the epoch too
    assert last_step(folder) == 3 and not (folder / "summary.json").exists()

    assert pretrain(sources, folder, "--variant=vitbert") == EXIT_DONE
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
def test_killed_it_goes_on_from_the_last_checkpoint(sources, tmp_path):
    """With all that saves memory or changes the update at once.

    Killed after metrics.csv and the activation maps have got ahead of the checkpoints, the last one
    within an epoch.
    """
    switches = ["accumulation=2", "remat=True", "data.packing=True", "model.stochastic_depth=0.2"]
    switches += ["model.attention_dropout=0.3", "optimizer.ema=0.9"]
    switches += ["merge.name=mask+uncertainty", "merge.mask_criterion=ratio"]
    switches += ["merge.mask_cumulative=False", "inspection.activation_interval=7"]
    flags = ["--variant=vitbert_no_kd", *(f"--config.{switch}" for switch in switches)]
    assert pretrain(sources, tmp_path / "whole", *flags) == EXIT_DONE
    folder, whole = tmp_path / "run", tmp_path / "whole"
    assert any("log_variances" in name for name in checkpoint_values(whole))
    assert "merge/text_weight" in metrics_rows(whole)[-1]
    argv = arguments(sources, f"--output_dir={folder}", *flags, "--config.checkpoint_interval=6")
    status, errors = Forked(pretrain_with_signal, argv, 9).end()
    assert status == -signal.SIGKILL, errors
    assert [int(row["step"]) for row in metrics_rows(folder)] == [4, 8]
    assert last_step(folder) == 6
    # What another kill would leave: half a checkpoint.
    half = folder / "checkpoints" / "step-00000008"
    shutil.copytree(folder / "checkpoints" / "step-00000006", half)
    (half / "state.index").write_bytes(b"half")

    assert pretrain(sources, folder, *flags, "--config.remat=False") == EXIT_DONE  # the same
    assert summary_of(folder)["resumed_from_step"] == 6
    assert_same_run(folder, whole)
    assert shown_points(folder) == shown_points(whole)  # not twice at step 8


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

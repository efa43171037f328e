"""Runs of `pretrain` that are stopped, killed or diverge, and run again."""

import json
import shutil
import signal

import numpy as np
import pytest

from keras_vitbert import load
from keras_vitbert.experiments.pretraining.report import printed
from keras_vitbert.runs import callbacks
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DIVERGED, EXIT_DONE, EXIT_STOPPED
from tests.forked import Forked
from tests.keras_vitbert.killed import pretrain_killed
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
    STEPS,
    assert_same_run,
    last_step,
    shown_points,
    without_clock,
)
from tests.marks import slow, thorough


@pytest.mark.parametrize("variant", ["joint", slow("vitbert")])
def test_a_finished_run_does_nothing_again(finished, sources, capsys, variant):
    folder = finished(variant, own_teachers=variant == "vitbert")
    before = files_below(folder)
    capsys.readouterr()
    assert pretrain(sources, folder, f"--variant={variant}") == EXIT_DONE
    assert files_below(folder) == before
    out, err = capsys.readouterr()
    assert "10 steps are done" in err
    assert out.strip() == printed(summary_of(folder), folder)


def test_names_of_classes_that_are_given_later_belong_to_the_run(unfinished, sources):
    record = content_of(unfinished / "config.json")
    del record["inputs"]["classes"]
    (unfinished / "config.json").write_text(json.dumps(record))
    (unfinished / "classes.txt").unlink()
    assert load(str(unfinished)).classes is None
    assert pretrain(sources, unfinished, "--variant=vit") == EXIT_DONE
    assert load(str(unfinished)).classes == CLASS_NAMES


@pytest.mark.slow
def test_finished_teachers_stay_as_they_are_when_the_student_accepts_a_change(
    finished, sources, tmp_path
):
    folder = tmp_path / "run"
    shutil.copytree(finished("vitbert", own_teachers=True), folder)
    (folder / "summary.json").unlink()
    before = files_below(folder / "teachers")
    flags = ["--variant=vitbert", "--config.seed=4", "--accept_changes=config.seed"]
    assert pretrain(sources, folder, *flags) == EXIT_DONE
    assert summary_of(folder)["accepted_changes"] == [{"name": "seed", "was": 3, "is": 4}]
    assert files_below(folder / "teachers") == before


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
    assert status == EXIT_STOPPED and line.startswith("stopped: at step 2")
    assert last_step(vit) == 2 and not (vit / "summary.json").exists() and not bert.exists()
    assert not (folder / "config.json").exists()  # the student has not begun

    status, line = run("batch", "bert", 4)  # its last step: it is finished, the student not begun
    assert status == EXIT_STOPPED and line.startswith("stopped: ")
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
    assert "steps_per_execution" in capsys.readouterr().err
    assert pretrain(sources, tmp_path, "--variant=vit") == EXIT_DONE
    assert summary_of(tmp_path)["resumed_from_step"] == 9
    assert_same_run(tmp_path, finished("vit"))


@pytest.mark.slow
def test_a_signal_in_the_last_step_is_too_late(finished, sources, tmp_path, signal_at):
    unsent = signal_at("batch", "vit", STEPS)
    assert pretrain(sources, tmp_path, "--variant=vit") == EXIT_DONE
    assert not unsent
    assert_same_run(tmp_path, finished("vit"))


@pytest.mark.slow
def test_with_other_epochs_a_row_covers_the_steps_since_the_one_before(
    finished, sources, tmp_path, signal_at
):
    """Stopped within an epoch of four steps, it goes on where one of two would end."""
    signal_at("batch", "vit", 6)
    assert pretrain(sources, tmp_path, "--variant=vit") == EXIT_STOPPED
    assert pretrain(sources, tmp_path, "--variant=vit", "--config.steps_per_epoch=2") == EXIT_DONE
    assert metrics_rows(tmp_path) == metrics_rows(finished("vit"))


@pytest.fixture
def every_switch(sources, tmp_path):
    """A run with all that saves memory or changes the update at once: (its flags, its folder)."""
    switches = ["accumulation=2", "remat=True", "data.packing=True", "model.stochastic_depth=0.2"]
    switches += ["model.attention_dropout=0.3", "optimizer.ema=0.9"]
    switches += ["merge.name=mask+uncertainty", "merge.mask_criterion=ratio"]
    switches += ["merge.mask_cumulative=False"]
    flags = ["--variant=vitbert_no_kd", *(f"--config.{switch}" for switch in switches)]
    assert pretrain(sources, tmp_path / "whole", *flags) == EXIT_DONE
    names = checkpoint_values(tmp_path / "whole")
    assert any("log_variances" in name for name in names)
    row = metrics_rows(tmp_path / "whole")[-1]
    assert "merge/text_weight" in row and "merge/image_weight" in row
    return flags, tmp_path / "whole"


@pytest.mark.parametrize("variant", [thorough("bert"), slow("every switch")])
def test_killed_it_goes_on_from_the_last_checkpoint(request, finished, sources, tmp_path, variant):
    """Killed after metrics.csv has got ahead of the checkpoints, the last one within an epoch."""
    folder = tmp_path / "run"
    if variant == "every switch":
        flags, whole = request.getfixturevalue("every_switch")
        again = [*flags, "--config.remat=False"]  # which changes no number
    else:
        again = flags = [f"--variant={variant}"]
        whole = finished(variant)
    often = "--config.checkpoint_interval=3"
    argv = arguments(sources, f"--output_dir={folder}", *flags, often)
    status, errors = Forked(pretrain_killed, argv).end()
    assert status == -signal.SIGKILL, errors
    assert [int(row["step"]) for row in metrics_rows(folder)] == [4, 8]
    assert last_step(folder) == 6
    # What another kill would leave: half a checkpoint.
    half = folder / "checkpoints" / "step-00000008"
    shutil.copytree(folder / "checkpoints" / "step-00000006", half)
    (half / "state.index").write_bytes(b"half")

    assert pretrain(sources, folder, *again) == EXIT_DONE
    assert summary_of(folder)["resumed_from_step"] == 6
    assert_same_run(folder, whole)
    assert shown_points(folder) == shown_points(whole)  # not twice at step 8


@pytest.mark.slow
def test_a_learning_rate_far_too_high(sources, tmp_path, capsys):
    flags = ["--variant=vit", "--config.optimizer.learning_rate=1e30"]
    flags += ["--config.checkpoint_interval=1"]
    assert pretrain(sources, tmp_path, *flags) == EXIT_DIVERGED
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("diverged: ") and "learning_rate" in line
    assert "step 2" in line
    assert not (tmp_path / "summary.json").exists()
    assert last_step(tmp_path) == 1
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

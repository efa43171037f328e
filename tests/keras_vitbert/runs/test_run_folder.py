"""What a run's folder takes when the run goes on in it."""

import dataclasses
import json
import os
import pathlib
import re
import shlex
import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs import sample
from keras_vitbert.runs import identity
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.runs.run_settings import RunSettings
from tests.keras_vitbert.tiny_runs import content_of

SAVED = pathlib.Path(__file__).parents[1] / "trained" / "saved"


def begin(path, config, **more):
    settings = RunSettings({"variant": "joint"}, config, ["a"], {"images": 3}, **more)
    settings.begin(RunFolder(str(path)))


def test_what_is_looked_at_may_change_from_start_to_start(tmp_path):
    begin(tmp_path, sample.get_config())
    config = sample.get_config()
    for key, value in config.inspection.items():
        config.inspection[key] = not value if isinstance(value, bool) else value + 7
    begin(tmp_path, config)
    config.model.num_layers += 1
    with pytest.raises(ValueError, match="config.model.num_layers=2, not 3"):
        begin(tmp_path, config)


def test_settings_are_compared_without_a_word_in_the_folder(tmp_path):
    config, folder = sample.get_config(), RunFolder(str(tmp_path))
    with pytest.raises(ValueError, match="config.json: no such file; use another --output_dir"):
        RunSettings({"variant": "joint"}, config, ["a"], {}).compare(folder)
    begin(tmp_path, config)
    before = (tmp_path / "config.json").read_text()
    config.seed = 5
    settings = RunSettings({"variant": "joint"}, config, ["a"], {"images": 3})
    with pytest.raises(ValueError, match="config.seed=0, not 5; give --config.seed=0 or use"):
        settings.compare(folder)
    settings = dataclasses.replace(settings, accepted=["config.seed"])
    assert settings.compare(folder) == [{"key": "config.seed", "was": 0, "is": 5}]
    config.data.images.crop_area = (0.5, 1.0)
    with pytest.raises(ValueError) as refusal:
        settings.compare(folder)
    given = shlex.split(str(refusal.value))  # as a shell takes what is pasted
    assert "--config.data.images.crop_area=(0.9, 1.0)" in given
    assert (tmp_path / "config.json").read_text() == before


def test_a_folder_from_before_there_was_inspection_goes_on(tmp_path):
    begin(tmp_path, sample.get_config())
    record = content_of(tmp_path / "config.json")
    del record["config"]["inspection"]
    (tmp_path / "config.json").write_text(json.dumps(record))
    begin(tmp_path, sample.get_config())


def test_names_of_classes_may_be_given_later(tmp_path):
    config = sample.get_config()
    begin(tmp_path, config)
    names = ["cat", "dog"]
    inputs = {"classes": identity.names_input(names)}
    begin(tmp_path, config, classes=names, inputs=inputs)
    assert (tmp_path / "classes.txt").read_text() == "cat\ndog\n"
    assert content_of(tmp_path / "config.json")["inputs"] == inputs


@pytest.mark.parametrize(("done", "steps"), [(None, 1), (300, 301), (300, 300), (300, 200)])
def test_a_run_may_be_shortened_to_what_is_not_done(tmp_path, done, steps):
    config = sample.get_config()
    begin(tmp_path, config)
    before = content_of(tmp_path / "config.json")
    if done:
        folder = tmp_path / "checkpoints" / f"step-{done:08d}"
        folder.mkdir()
        (folder / "step.json").write_text(json.dumps({"step": done}))
        (tmp_path / "checkpoints" / "LAST").write_text(f"{folder.name}\n")
    config.steps = steps
    settings = {"accepted": ["config.steps"], "steps_flag": "config.teachers.image_steps"}
    if steps > (done or 0):
        begin(tmp_path, config, **settings)
        assert content_of(tmp_path / "config.json")["config"]["steps"] == steps
        return
    message = f"--config.teachers.image_steps={steps}: .* already done 300 steps; give at least 301"
    with pytest.raises(ValueError, match=message):
        begin(tmp_path, config, **settings)
    assert content_of(tmp_path / "config.json") == before


def test_the_flag_that_sets_the_steps_is_told(tmp_path):
    config = sample.get_config()
    begin(tmp_path, config)
    steps, config.steps = config.steps, 1
    message = f"config.steps={steps}, not 1; give --config.teachers.text_steps={steps} or use"
    with pytest.raises(ValueError, match=message):
        begin(tmp_path, config, steps_flag="config.teachers.text_steps")


MEMORY = pathlib.Path("/proc/self/smaps_rollup")


@pytest.mark.slow
@pytest.mark.skipif(not MEMORY.exists(), reason="asks Linux for the memory")
def test_numbers_that_were_logged_do_not_stay_in_memory(tmp_path):
    """TensorFlow keeps a tensor of each Python number that it is given, 765 bytes."""
    folder, random = RunFolder(str(tmp_path)), np.random.default_rng(0)

    def log(epochs):
        for step in random.integers(2**40, size=epochs).tolist():
            numbers = random.random(40).tolist()
            folder.log_scalars("train", step, {f"tag{n}": x for n, x in enumerate(numbers)})

    def megabytes():
        found = re.search(r"^Anonymous: +(\d+) kB", MEMORY.read_text(), re.MULTILINE)
        return int(found[1]) / 1024

    log(50)
    before = megabytes()
    log(200)  # would be 6 MB
    assert megabytes() - before < 2


@pytest.mark.parametrize(("older", "place"), [(False, "."), (True, "logs")])
def test_curves_of_an_older_run_go_on_where_they_are(tmp_path, older, place):
    if older:
        (tmp_path / "logs" / "train").mkdir(parents=True)
    RunFolder(str(tmp_path)).log_scalars("train", 3, {"loss/loss": 0.5})
    [events] = tmp_path.rglob("events.out.tfevents.*")
    assert events.parent == tmp_path / place / "train"


def test_a_pipe_is_not_read(tmp_path, monkeypatch):
    shutil.copytree(SAVED / "run", tmp_path / "run")
    folder = RunFolder(str(tmp_path / "run"))
    assert folder.record() is not None
    [pointer] = (tmp_path / "run").glob("checkpoints/*/state.index")
    pointer.unlink()
    os.mkfifo(pointer)
    with pytest.raises(ValueError, match=f"^{pointer}: cannot be read"):
        folder.record()
    monkeypatch.setattr(tf.io.gfile, "GFile", lambda *_: pytest.fail("the pipe is opened"))
    (tmp_path / "run" / "summary.json").unlink()
    os.mkfifo(tmp_path / "run" / "summary.json")
    with pytest.raises(ValueError, match="summary.json is damaged .it is a pipe"):
        folder.summary()

"""A run is compared with what it was made from; changes are refused by name, or accepted."""

import functools
import json

import pytest

from keras_vitbert.configs import sample
from keras_vitbert.runs import identity
from keras_vitbert.runs.identity import Identity, config_of, experiment_dict
from keras_vitbert.runs.provenance import versions
from keras_vitbert.runs.run_folder import RunFolder
from tests.keras_vitbert.tiny_runs import content_of, files_below

FIRST, OTHER = "a" * 64, "b" * 64


def identity_of(inputs=(), changes=(), **more):
    """That of the sample's config with other values at some dotted keys."""
    experiment = experiment_dict(sample.get_config().with_values({"variant": "joint"}))
    for key, value in dict(changes).items():  # also to values that a run would refuse
        *sections, name = key.split(".")
        functools.reduce(dict.__getitem__, sections, experiment)[name] = value
    more = {"vocabulary": ["a"], **more}
    return Identity(experiment, dict(inputs), **more)


def begin(folder, inputs=(), changes=(), **more):
    identity_of(inputs, changes, **more).begin(RunFolder(str(folder)))


def record(folder):
    return content_of(folder / "config.json")


def refused(folder, *names, **arguments):
    """The run is refused; the message names all that differs, and nothing is written."""
    before = files_below(folder)
    with pytest.raises(ValueError) as refusal:
        begin(folder, **arguments)
    message = str(refusal.value)
    assert message.startswith(str(folder)) and "\n" not in message
    assert all(name in message for name in names), message
    assert files_below(folder) == before


def test_what_is_recorded(tmp_path):
    begin(tmp_path, {"texts": FIRST}, classes={"classes": ["cat"]}, about={"records": {"texts": 3}})
    found = record(tmp_path)
    assert found["format"] == 1 and found["versions"] == versions()
    config = sample.get_config().with_values({"variant": "joint"})
    assert found["experiment"] == experiment_dict(config) and found["records"] == {"texts": 3}
    assert config_of(found) == config
    assert found["inputs"].keys() == {"texts", "vocabulary", "classes"}
    assert (tmp_path / "classes.txt").read_text() == "cat\n"


def test_all_that_differs_is_named(tmp_path):
    begin(
        tmp_path,
        {"texts": FIRST, "images": FIRST, "image_teacher": FIRST},
        classes={"classes": ["cat"]},
    )
    same = {"texts": FIRST, "images": FIRST, "image_teacher": FIRST}
    changes = {"seed": 5, "model.num_layers": 3}
    names = ("other texts;", "other vocabulary", "seed=0, not 5", "model.num_layers=2, not 3")
    other = {"inputs": {**same, "texts": OTHER}, "vocabulary": ["b"]}
    other["classes"] = {"classes": ["cat"]}
    refused(tmp_path, *names, changes=changes, **other)
    refused(tmp_path, "other classes", inputs=same, classes={"classes": ["dog"]})
    refused(tmp_path, "other image_teacher", inputs={"texts": FIRST, "images": FIRST})
    refused(tmp_path, "other initial_weights", inputs={**same, "initial_weights": FIRST})


@pytest.mark.parametrize(
    ("free", "may_change"),
    [
        (identity.FREE_OF_PRETRAINING, []),
        (identity.FREE_OF_FINE_TUNING, ["learning_rate"]),  # a trial is named by it
    ],
)
def test_no_setting_of_the_optimizer_may_change(tmp_path, free, may_change):
    begin(tmp_path, free=free)
    for name, value in vars(sample.get_config().optimizer).items():
        changes = {f"optimizer.{name}": value * 2 or value + 1}
        if name in may_change:
            begin(tmp_path, changes=changes, free=free)
        else:
            refused(tmp_path, f"optimizer.{name}=", changes=changes, free=free)


def test_accepted_changes_are_told_and_kept(tmp_path, capsys):
    begin(tmp_path, {"texts": FIRST}, about={"records": 3})
    accepted = ["texts", "config.seed"]
    refused(tmp_path, "other texts", inputs={"texts": OTHER}, accepted=["images"])
    begin(tmp_path, {"texts": OTHER}, {"seed": 5}, accepted=accepted, about={"records": 4})
    told = capsys.readouterr().err
    assert "seed=0, not 5" in told and "other texts" in told
    begin(tmp_path, {"texts": OTHER}, {"seed": 5}, about={"records": 4})
    changes = record(tmp_path)["accepted_changes"]
    assert changes == [
        {"name": "seed", "was": 0, "is": 5},
        {"name": "texts", "was": FIRST, "is": OTHER},
    ]
    assert record(tmp_path)["experiment"]["seed"] == 5 and record(tmp_path)["records"] == 4
    RunFolder(str(tmp_path)).finish({"steps": 1})
    summary = content_of(tmp_path / "summary.json")
    assert summary["inputs"]["texts"] == OTHER and summary["accepted_changes"] == changes


@pytest.mark.parametrize(
    "other", [{"inputs": {"initial_weights": OTHER}}, {"vocabulary": ["b"], "inputs": {}}]
)
def test_initial_weights_and_the_vocabulary_may_never_change(tmp_path, other):
    begin(tmp_path, {"initial_weights": FIRST})
    other["inputs"] = {"initial_weights": FIRST, **other["inputs"]}
    refused(tmp_path, "other ", accepted=["initial_weights", "vocabulary"], **other)


def test_what_a_run_makes_itself_is_compared_once_it_is_made(tmp_path):
    begin(tmp_path, {"image_teacher": FIRST})
    refused(tmp_path, "other image_teacher", inputs={"image_teacher": OTHER})
    assert identity_of().changes(RunFolder(str(tmp_path)), later=["image_teacher"]) == []
    classes = {"classes": ["cat", "dog"]}  # they may be named later
    begin(tmp_path, {"image_teacher": FIRST}, classes=classes)
    assert (tmp_path / "classes.txt").read_text() == "cat\ndog\n"


@pytest.mark.parametrize(("done", "steps"), [(None, 1), (300, 301), (300, 300)])
def test_a_run_may_be_shortened_to_what_is_not_done(tmp_path, done, steps):
    begin(tmp_path)
    if done:
        folder = tmp_path / "checkpoints" / f"step-{done:08d}"
        folder.mkdir(parents=True)
        (folder / "step.json").write_text(json.dumps({"step": done}))
        (tmp_path / "checkpoints" / "LAST").write_text(f"{folder.name}\n")
    arguments = {"changes": {"steps": steps}, "accepted": ["steps"]}
    if steps > (done or 0):
        begin(tmp_path, **arguments)
        assert record(tmp_path)["experiment"]["steps"] == steps
    else:
        with pytest.raises(ValueError, match=f"steps={steps}: .* has already done 300"):
            begin(tmp_path, **arguments)
        assert record(tmp_path)["experiment"]["steps"] == sample.get_config().steps


def test_what_computes_otherwise_is_told(tmp_path, capsys):
    begin(tmp_path, dropout_generator="threefry")
    begin(tmp_path, dropout_generator="threefry")
    begin(tmp_path)  # without dropout
    assert not capsys.readouterr().err
    old = record(tmp_path)
    old["versions"] |= {"tensorflow": "2.19.0"}
    (tmp_path / "config.json").write_text(json.dumps(old))
    begin(tmp_path, changes={"remat": True}, replicas=4, dropout_generator="philox16")
    [line] = capsys.readouterr().err.splitlines()
    told = ("tensorflow 2.19.0, now ", "replicas 1, now 4", "remat False, now True", "threefry")
    assert all(part in line for part in told)
    assert record(tmp_path) == old


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[]", b'{"format": 2}'])
def test_another_format_and_damage_are_refused_by_name(tmp_path, content):
    begin(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{tmp_path}/config.json"):
        RunFolder(str(tmp_path)).record()

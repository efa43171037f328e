"""What is read of a run's folder is checked, and completed where an older version wrote it."""

import copy
import json
import pathlib

import pytest

from keras_vitbert.configs.overrides import flatten
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.runs.run_record import checked_record, checked_summary

SAVED = pathlib.Path(__file__).parents[1] / "trained" / "saved"
RUNS = ("run", "fine_tuned_images", "fine_tuned_texts")


def content(name, file="config.json"):
    return json.loads((SAVED / name / file).read_text())


def changed(whole, path, value):
    """A copy with another value at a dotted path; `...` removes the key."""
    whole = copy.deepcopy(whole)
    *sections, key = path.split(".")
    part = whole
    for section in sections:
        part = part[section]
    if value is ...:
        del part[key]
    else:
        part[key] = value
    return whole


@pytest.mark.parametrize("name", RUNS)
def test_what_an_older_version_lacks_has_its_default(name):
    record = content(name)
    whole = checked_record(record)
    flat, stored = flatten(whole["config"]), flatten(record["config"])
    assert {key: flat[key] for key in stored} == stored
    older = changed(changed(record, "config.dtype", ...), "config.optimizer", ...)
    config = checked_record(older)["config"]
    assert config["dtype"] == "auto" and config["optimizer"].keys() == (
        whole["config"]["optimizer"].keys()
    )
    newer = changed(record, "config.later", "what this version does not know")
    assert checked_record(newer)["config"]["later"]


@pytest.mark.parametrize(
    ("name", "path", "value", "reason"),
    [
        ("run", "variant", "vitbrt", "variant is 'vitbrt', not one of bert, vit, "),
        ("run", "variant", ["vit"], "variant is .'vit'., not one of"),
        ("run", "variant", ..., "it holds vocabulary_sha256, records, config"),
        ("run", "config", [1], "config is .1."),
        ("run", "config.model", ..., "it holds no model"),
        ("run", "config.model", None, "config.model is None"),
        ("run", "config.model.hidden_dim", ..., "model.hidden_dim is None, not a number from 1"),
        ("run", "config.model.hidden_dim", "8", "hidden_dim='8': must be of type int"),
        ("run", "config.model.hidden_dim", 9, "model.hidden_dim is 9, not a multiple of num_heads"),
        ("run", "config.model.patch_size", 0, "model.patch_size is 0, not a number from 1"),
        ("run", "config.model.num_layers", -1, "model.num_layers is -1, not a number from 1"),
        (
            "run",
            "config.model.num_layers",
            10**9,
            "num_layers is 10*, not a number from 1 to 10000",
        ),
        ("run", "config.model.dropout", 1, "model.dropout is 1, not a number from 0 to 1"),
        ("run", "config.data.images.central_crop", "x", "central_crop='x': must be of type float"),
        ("fine_tuned_images", "config.lora_rank", -1, "config.lora_rank is -1, not a number"),
        *(
            ("fine_tuned_texts", "columns", {"label": "b", **columns}, "columns is .*")
            for columns in (
                *({"sentences": names} for names in (3, None, "a", ["a", 3], [["a"]], {"a": 1})),
                {"sentences": ["a"], "label": ["b"]},
                {},
            )
        ),
        ("run", "config.dtype", "floatx", "config.dtype is 'floatx', not one of auto, "),
        ("run", "config.data.case", "upper", "config.data.case is 'upper', not one of auto, "),
        ("run", "records", [1], "records is .1."),
        ("run", "inputs", {"classes": "x"}, "inputs.classes is 'x'"),
        ("run", "vocabulary_sha256", 3, "vocabulary_sha256 is 3"),
        ("fine_tuned_images", "task", ["images"], "task is .'images'."),
        ("fine_tuned_images", "kind", "sound", "kind is 'sound', not images or text"),
        ("fine_tuned_images", "model", ..., "it holds no model"),
        ("fine_tuned_images", "model.image_size", None, "model.image_size is None"),
        ("fine_tuned_texts", "model.vocabulary_size", "36", "model.vocabulary_size is '36'"),
        ("fine_tuned_images", "config.lora_rank", "x", "lora_rank='x': must be of type int"),
        ("fine_tuned_images", "config.images", "x", "config.images is 'x'"),
    ],
)
def test_a_record_that_is_none(name, path, value, reason):
    with pytest.raises(ValueError, match=reason):
        checked_record(changed(content(name), path, value))


@pytest.mark.parametrize(
    ("name", "path", "value", "reason"),
    [
        ("run", "steps", ..., "steps is missing"),
        ("run", "validation", [], "validation is .."),
        ("run", "validation.image_accuracy", "0.3", "validation.image_accuracy is '0.3'"),
        ("fine_tuned_images", "model", 3, "model is 3"),
        ("fine_tuned_images", "splits", ..., "splits is missing"),
    ],
)
def test_a_summary_that_is_none(name, path, value, reason):
    summary = content(name, "summary.json")
    assert checked_summary(summary) == summary
    with pytest.raises(ValueError, match=reason):
        checked_summary(changed(summary, path, value))


@pytest.mark.parametrize("damaged", [b"\xff\xfe", b'{"a": "\xe9"}', b"[" * 100_000, b"{", b"[]"])
def test_files_that_are_no_json(tmp_path, damaged):
    for name, read in (("config", RunFolder.record), ("summary", RunFolder.summary)):
        (tmp_path / f"{name}.json").write_bytes(damaged)
        with pytest.raises(ValueError, match=f"/{name}.json is damaged .*; fix it or use another"):
            read(RunFolder(str(tmp_path)))

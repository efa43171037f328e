"""What a trained model was made from, as the models, reports and files made from it record it."""

import os
from typing import Any

from keras_vitbert.runs.input_digests import weights_sha256
from pipelines.files import json_object, reading

ORIGIN_FILE = "origin.json"  # of presets and exports: what `origin_of` returns


def made_of(record: dict[str, Any], summary: dict[str, Any]) -> dict[str, Any]:
    """What a run was made from, for what is made from it.

    `inputs`, the names of `accepted_changes`, the `versions` that trained it; and for fine-tuning
    what the `checkpoint` was made from.

    Args:
        record: the content of `config.json`.
        summary: the content of `summary.json`; empty if there is none.
    """
    found = {
        "inputs": record["inputs"],
        "accepted_changes": _accepted(record),
        "versions": summary.get("versions") or record["versions"],
    }
    if "checkpoint_origin" in record:
        found["checkpoint"] = record["checkpoint_origin"]
    return found


def origin_of(trained):
    """Where a model came from, for what is made from it.

    Args:
        trained: `keras_vitbert.trained.trained_model.TrainedModel`.

    Returns:
        JSON-serialisable dict: `name`, `step`, `weights_sha256` of its backbone, and `made_of`: for
        a run, what `made_of` returns; for a preset, its own `origin.json`.

    Raises:
        ValueError: that file is damaged.
    """
    file, earlier = os.path.join(trained.path, ORIGIN_FILE), {}
    if trained.record:
        earlier = made_of(trained.record, trained.summary)
    elif os.path.isfile(file):
        with reading(file) as (stream, _):
            try:
                earlier = json_object(stream.read())
            except ValueError as error:
                raise ValueError(f"{file} is damaged ({error}); remove it") from error
    return {
        "name": trained.name,
        "step": trained.step,
        "weights_sha256": weights_sha256(trained.backbone),
        "made_of": earlier,
    }


def accepted_lines(summary: dict[str, Any]) -> list[str]:
    """What a report says about the accepted changes in a `summary.json`: no line, or one."""
    names = _accepted(summary)
    return [f"  accepted changes since it began: {', '.join(names)}"] if names else []


def _accepted(record):
    """The names of the accepted changes, each once."""
    return list(dict.fromkeys(change["name"] for change in record["accepted_changes"]))

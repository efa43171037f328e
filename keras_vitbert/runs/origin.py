"""What a trained model was made from, as the models, reports and files made from it record it."""

import os

from keras_vitbert.runs.identity import name_of, weights_sha256
from pipelines.files import json_object, reading

ORIGIN_FILE = "origin.json"  # of presets and exports: what `origin_of` returns


def made_of(record, summary):
    """What a run was made from, for what is made from it. Paths are private, and left out.

    Args:
        record: dict, the content of `config.json`.
        summary: dict, the content of `summary.json`; empty if there is none.

    Returns:
        JSON-serialisable dict: `inputs` with their digests, `accepted_changes` by name, the
        `versions` that trained it, and for fine-tuning what the `checkpoint` was made from.
    """
    inputs = {
        name: {key: digest for key, digest in content.items() if key != "path"}
        for name, content in record.get("inputs", {}).items()
    }
    if record.get("vocabulary_sha256"):
        inputs["vocabulary"] = {"sha256": record["vocabulary_sha256"]}
    found = {
        "inputs": inputs,
        "accepted_changes": _accepted(record),
        "versions": summary.get("versions") or record.get("versions", {}),
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


def accepted_lines(summary):
    """What a report says about accepted changes: list of str, none or one.

    Args:
        summary: dict, the content of `summary.json`.
    """
    names = _accepted(summary)
    return [f"  accepted changes since it began: {', '.join(names)}"] if names else []


def _accepted(record):
    """The names of the accepted changes, each once: list of str."""
    return list(dict.fromkeys(map(name_of, record.get("accepted_changes", []))))

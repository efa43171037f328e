"""Checks files read from a run's folder: `config.json`, `summary.json`, a trial's `result.json`."""

from keras_vitbert.configs import architecture, fine_tuning
from keras_vitbert.configs.checks import DTYPES, check_types
from keras_vitbert.configs.devices import JIT_COMPILE
from keras_vitbert.configs.fine_tuning import OLD_TASKS
from keras_vitbert.configs.overrides import flatten
from keras_vitbert.configs.pretraining import load_config
from keras_vitbert.configs.variants import VARIANTS
from keras_vitbert.runs.identity import require_schema
from pipelines.text.casing import AUTO, CASES

_NUMBER = (int, float)
# What config.json may hold besides `config`.
_RECORD = {
    "vocabulary_sha256": (str, type(None)),
    "checkpoint": str,
    "checkpoint_origin": dict,
    "task": str,
    "kind": str,
    "model": dict,
    "columns": dict,
    "records": dict,
    "inputs": dict,
    "versions": dict,
    "replicas": int,
    "dropout_generator": str,
    "accepted_changes": list,
}
# What summary.json holds for a run of `pretrain`, and for one of `finetune`.
_PRETRAINED = {
    "steps": int,
    "seconds": _NUMBER,
    "validation": dict,
    "baselines": dict,
    "mask": dict,
    "bad_records": list,
}
_FINE_TUNED = {
    "model": str,
    "metric": str,
    "learning_rate": _NUMBER,
    "steps": int,
    "seeds": list,
    "splits": dict,
}
# What result.json holds for a trial.
_RESULT = {
    "purpose": str,
    "learning_rate": _NUMBER,
    "seed": int,
    "steps": int,
    "seconds": _NUMBER,
    "parameters": int,
    "trained_parameters": int,
    "transfer": dict,
    "diverged": bool,
    "splits": dict,
}
_MEASURES = ("examples", "accuracy", "f1", "mcc", "majority_accuracy")  # of each split
_NEWER_MEASURES = ("log_loss", "ece")  # which older versions did not write
_SIZES = ("num_layers", "num_heads", "hidden_dim", "intermediate_dim")
_IMAGE_SIZES = ("image_size", "patch_size")
_TEXT_SIZES = ("vocabulary_size", "max_sequence_length")
_MOST_LAYERS = 10_000


def checked_record(record):
    """Checks the content of `config.json`.

    Args:
        record: dict.

    Returns:
        dict, the record. Keys that its config lacks, because an older version did not know them,
        have their defaults, and `numerics` says how the run computes.

    Raises:
        ValueError: says what is wrong.
    """
    require_schema(record)
    is_run, is_fine_tuned = "variant" in record, "task" in record
    if not {"vocabulary_sha256", "config"} <= set(record) or not (is_run or is_fine_tuned):
        raise ValueError(f"it holds {', '.join(record) or 'nothing'}")
    _check_types(record, {name: kind for name, kind in _RECORD.items() if name in record})
    if record.get("task") in OLD_TASKS:
        record = {**record, "task": OLD_TASKS[record["task"]]}
    for name, value in record.get("inputs", {}).items():
        if not isinstance(value, dict) or not {"path", "sha256"} <= value.keys():
            raise ValueError(f"inputs.{name} is {value!r}")
    kind, sizes = record.get("kind"), _SIZES
    if is_run:
        if not isinstance(record["variant"], str) or record["variant"] not in VARIANTS:
            raise ValueError(f"variant is {record['variant']!r}, not one of {', '.join(VARIANTS)}")
        sizes += (*_IMAGE_SIZES, *_TEXT_SIZES, "num_classes")
        defaults = load_config("paper").to_dict()
    else:
        if kind not in ("images", "text"):
            raise ValueError(f"kind is {kind!r}, not images or text")
        sizes += _IMAGE_SIZES if kind == "images" else _TEXT_SIZES
        defaults = fine_tuning.get_config(record["task"], kind).to_dict()
    config = _completed(record["config"], defaults, "config")
    known, flat = flatten(defaults), flatten(config)
    try:
        check_types({key: value for key, value in flat.items() if key in known}, known)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("--")) from error
    if config["dtype"] not in DTYPES:
        raise ValueError(f"config.dtype is {config['dtype']!r}, not one of {', '.join(DTYPES)}")
    jit = config["jit_compile"]
    if jit not in JIT_COMPILE:
        raise ValueError(f"config.jit_compile is {jit!r}, not one of {', '.join(JIT_COMPILE)}")
    case = config.get("data", {}).get("case", AUTO)
    if case not in CASES:
        raise ValueError(f"config.data.case is {case!r}, not one of {', '.join(CASES)}")
    if config.get("lora_rank", 0) < 0:
        raise ValueError(f"config.lora_rank is {config['lora_rank']!r}, not a number from 0")
    if columns := record.get("columns"):
        names = columns.get("sentences")
        names = [*names, columns.get("label")] if isinstance(names, list) else [None]
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"columns is {columns!r}")
    # A model of other sizes is another model: sizes have no defaults.
    _check_model(record["config"].get("model") if is_run else record.get("model"), sizes)
    # Before this key existed, random numbers were drawn in another way; see `identity.NUMERICS`.
    began = 1 if is_fine_tuned or "steps_per_execution" in record["config"] else 0
    return {"numerics": began, **record, "config": config}


def checked_summary(summary):
    """Checks the content of `summary.json`.

    Args:
        summary: dict.

    Returns:
        dict, the same.

    Raises:
        ValueError: says what is wrong.
    """
    _check_types(summary, _FINE_TUNED if "task" in summary else _PRETRAINED)
    for part in ("validation", "baselines"):
        for name, value in summary.get(part, {}).items():
            if not isinstance(value, _NUMBER):
                raise ValueError(f"{part}.{name} is {value!r}")
    return summary


def checked_result(result):
    """Checks the content of a trial's `result.json`.

    Args:
        result: dict.

    Returns:
        dict, the same.

    Raises:
        ValueError: says what is wrong.
    """
    _check_types({"classes": {}, **result}, {"classes": dict, **_RESULT})
    for split, measures in result["splits"].items():
        if not isinstance(measures, dict):
            raise ValueError(f"splits.{split} is {measures!r}")
        for name in (*_MEASURES, *(name for name in _NEWER_MEASURES if name in measures)):
            if not isinstance(measures.get(name), _NUMBER):
                raise ValueError(f"splits.{split}.{name} is {measures.get(name)!r}")
    return result


def _check_types(content, kinds):
    for name, kind in kinds.items():
        if not isinstance(content.get(name), kind):
            found = f"is {content[name]!r}" if name in content else "is missing"
            raise ValueError(f"{name} {found}")


def _completed(config, defaults, name):
    """A section of a config, with the keys that it lacks added."""
    if not isinstance(config, dict):
        raise ValueError(f"{name} is {config!r}")
    sections = {
        key: _completed(config.get(key, default), default, f"{name}.{key}")
        for key, default in defaults.items()
        if isinstance(default, dict)
    }
    return {**defaults, **config, **sections}


def _check_model(model, sizes):
    """Refuses sizes that no network has."""
    if not isinstance(model, dict):
        raise ValueError("it holds no model")
    for name in sizes:
        size, most = model.get(name), _MOST_LAYERS if name == "num_layers" else 2**31
        if type(size) is not int or not 1 <= size <= most:
            raise ValueError(f"model.{name} is {size!r}, not a number from 1 to {most}")
    for name, fix in architecture.problems(model).items():
        raise ValueError(f"model.{name} is {model[name]!r}, but {fix}")
    dropout = model.get("dropout")
    if not isinstance(dropout, _NUMBER) or not 0 <= dropout < 1:
        raise ValueError(f"model.dropout is {dropout!r}, not a number from 0 to 1")
    for whole, part in (("hidden_dim", "num_heads"), _IMAGE_SIZES):
        if part in sizes and model[whole] % model[part]:
            raise ValueError(f"model.{whole} is {model[whole]}, not a multiple of {part}")

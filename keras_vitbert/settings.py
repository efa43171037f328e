"""From the command line to a checked config."""

import difflib
import importlib.util
import math
import os

from keras_vitbert.command_line import UserError, one_line, parse_flags

CONFIGS = ("sample", "paper")


def parse(argv, define_flags, usage, default_config="sample"):
    """Parses flags and the config with its overrides.

    Args:
        argv: list of str, without the program's name.
        define_flags: callable that is given the `absl.flags.FlagValues` to define flags on.
        usage: str, printed above the flags by `--help`.
        default_config: str, the config where `--config` is not given.

    Returns:
        (`FlagValues`, `ConfigDict`).

    Raises:
        UserError: a flag, a config or a key is wrong.
        SystemExit: `--help` was asked for.
    """
    from absl import flags
    from ml_collections import config_flags

    name, overrides = _split_config_name(argv, default_config)
    values = flags.FlagValues()
    define_flags(values)
    config = load_config(name)
    try:
        # Reads the overrides already here.
        config_flags.DEFINE_config_dict(
            "config",
            config,
            "sample, paper or FILE.py, perhaps with :SIZE behind it (sample, tiny, small, base, "
            "large); --config.KEY=VALUE changes a value",
            flag_values=values,
            sys_argv=["", *overrides],
        )
        # For --help, instead of a YAML dump.
        flat = flatten(config).items()
        values["config"].default_as_str = ", ".join(f"{key}={value}" for key, value in flat)
        parse_flags(values, overrides, usage)
    except (KeyError, AttributeError) as error:
        raise UserError(_unknown_key(overrides, config)) from error
    except (TypeError, ValueError) as error:
        raise UserError(f"--config: {one_line(error)}; --help lists the flags") from error
    config = values.config
    check_config(config)
    return values, config


def load_config(name):
    """The config of a name: `sample`, `paper` or `FILE.py`, perhaps with `:SIZE` behind it.

    Args:
        name: str. A file holds `get_config()`, or `get_config(size)`, that returns a `ConfigDict`.

    Raises:
        UserError: there is no such config, or it does not work.
    """
    base, _, size = name.partition(":")
    path = base
    if base in CONFIGS:
        path = os.path.join(os.path.dirname(__file__), "configs", f"{base}.py")
    if not path.endswith(".py") or not os.path.isfile(path):
        raise UserError(
            f"--config={name}: no such config; give {', '.join(CONFIGS)} or a file FILE.py"
            f"{meant(base, CONFIGS)}"
        )
    try:
        spec = importlib.util.spec_from_file_location("config_file", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config(size) if size else module.get_config()
        flatten(config)
        return config
    except Exception as error:  # a user's file may fail in any way
        raise UserError(f"--config={name}: {type(error).__name__}: {one_line(error)}") from error


def _split_config_name(argv, default):
    """The value of the last `--config=NAME` or `--config NAME`, and the other arguments."""
    name, others = default, []
    arguments = iter(argv)
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag not in ("--config", "-config"):
            others.append(argument)
        elif equals:
            name = value
        else:
            name = next(arguments, None)
            if name is None:
                raise UserError("--config has no value; give sample, paper or a file FILE.py")
    return name, others


def config_label(argv, default="sample"):
    """A short name of the config that is asked for, for the name of a folder."""
    name, _ = _split_config_name(argv, default)
    return os.path.basename(name).replace(".py", "").replace(":", "-")


def flatten(config, prefix=""):
    """A config as a dict of dotted keys, such as `optimizer.learning_rate`."""
    flat = {}
    for key, value in config.items():
        if hasattr(value, "items"):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def _unknown_key(overrides, config):
    known = list(flatten(config))
    keys = [argument.lstrip("-").partition("=")[0] for argument in overrides]
    unknown = [
        key.removeprefix("config.")
        for key in keys
        if key.startswith("config.") and key.removeprefix("config.") not in known
    ]
    key = unknown[0] if unknown else "?"
    return (
        f"--config.{key}: the config has no such key{meant(key, known, '--config.')}; "
        "config.json of a run lists them all"
    )


def check_config(config):
    """Refuses settings that cannot work.

    Raises:
        UserError: names the key and the mend.
    """
    flat = flatten(config)
    _check_keys(flat)

    def require(condition, key, mend):
        if not condition:
            raise UserError(f"--config.{key}={flat[key]}: {mend}")

    for key in ("steps", "image_batch", "text_batch", "steps_per_epoch", "validation_interval"):
        require(flat[key] >= 1, key, "must be at least 1")
    for key in ("checkpoint_interval", "checkpoints_to_keep", "merge.mask_update_interval"):
        require(flat[key] >= 1, key, "must be at least 1")
    for key in (key for key in flat if key.startswith("model.") and key != "model.dropout"):
        require(flat[key] >= 1, key, "must be at least 1")
    require(0 <= flat["seed"] < 2**32, "seed", "must be in [0, 2**32)")
    heads, patch = flat["model.num_heads"], flat["model.patch_size"]
    require(
        flat["model.hidden_dim"] % heads == 0,
        "model.hidden_dim",
        f"must be a multiple of model.num_heads, which is {heads}",
    )
    require(
        flat["model.image_size"] % patch == 0,
        "model.image_size",
        f"must be a multiple of model.patch_size, which is {patch}",
    )
    for key in ("distillation.ratio", "merge.image_loss_ratio", "merge.mask_ratio"):
        require(0 <= flat[key] <= 1, key, "must be in [0, 1]")
    require(
        0 < flat["merge.mask_ratio_per_update"] <= 1,
        "merge.mask_ratio_per_update",
        "must be above 0 and at most 1",
    )
    require(0 <= flat["model.dropout"] < 1, "model.dropout", "must be in [0, 1)")
    require(flat["distillation.temperature"] >= 0, "distillation.temperature", "must be at least 0")
    for key in ("optimizer.clip_norm", "optimizer.epsilon"):
        require(flat[key] > 0, key, "must be above 0")
    for key in ("optimizer.learning_rate", "optimizer.weight_decay", "optimizer.power"):
        require(flat[key] >= 0, key, "must be at least 0")
    for key in ("optimizer.beta_1", "optimizer.beta_2"):
        require(0 <= flat[key] < 1, key, "must be in [0, 1)")
    require(
        0 <= flat["optimizer.warmup_steps"] < flat["steps"],
        "optimizer.warmup_steps",
        f"must be below steps, which is {flat['steps']}",
    )
    for key in ("teachers.image_steps", "teachers.text_steps"):
        warmup = flat["optimizer.warmup_steps"]
        require(
            flat[key] == 0 or flat[key] > warmup,
            key,
            f"must be 0 (as many as the student) or above optimizer.warmup_steps, {warmup}",
        )
    require(
        flat["validation_interval"] % flat["steps_per_epoch"] == 0,
        "validation_interval",
        f"must be a multiple of steps_per_epoch, which is {flat['steps_per_epoch']}",
    )
    for key, known in (
        ("dtype", ("float32", "mixed_bfloat16")),
        ("merge.name", ("sum", "mask", "random_mask")),
        ("data.source", ("sample", "files")),
    ):
        require(flat[key] in known, key, f"must be one of {', '.join(known)}")
    area = flat["data.images.crop_area"]
    require(
        len(area) == 2 and 0 < area[0] <= area[1] <= 1,
        "data.images.crop_area",
        "must be two numbers with 0 < first <= second <= 1",
    )
    operations, magnitude = (*flat["data.images.randaugment"], -1, -1)[:2]
    require(
        len(flat["data.images.randaugment"]) == 2
        and all(isinstance(value, int) for value in (operations, magnitude))
        and operations >= 0
        and 0 <= magnitude <= 30,
        "data.images.randaugment",
        "must be two integers, operations an image from 0 and a magnitude from 0 to 30",
    )
    for key in ("data.images.mixup", "data.images.cutmix"):
        require(flat[key] >= 0, key, "must be at least 0")
    mixed = flat["data.images.mixup"] or flat["data.images.cutmix"]
    require(
        not mixed or flat["image_batch"] % 2 == 0,
        "image_batch",
        "must be even where images are mixed: two by two",
    )
    require(0 < flat["data.text.masking.ratio"] < 1, "data.text.masking.ratio", "must be in (0, 1)")
    require(
        flat["data.text.masking.max_predictions"] >= 1,
        "data.text.masking.max_predictions",
        "must be at least 1",
    )
    require(
        0 < flat["data.images.central_crop"] <= 1,
        "data.images.central_crop",
        "must be above 0 and at most 1",
    )


def _check_keys(flat):
    """Refuses keys that are missing or unknown, as in a user's file, and values of other types."""
    known = flatten(load_config("paper"))
    for key in known:
        if key not in flat:
            raise UserError(f"the config has no {key}; begin with keras_vitbert.configs.paper")
    for key, value in flat.items():
        if key not in known:
            raise UserError(f"the config holds {key}, which nothing reads{meant(key, known)}")
        kind = type(known[key])
        fits = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
        if kind is float and type(value) is int:
            fits = True  # 1 where 1.0 is meant
        if kind is list and fits:
            fits = all(isinstance(item, int | float) for item in value)
        if not fits:
            wanted = "list of numbers" if kind is list else kind.__name__
            raise UserError(f"--config.{key}={value!r}: must be of type {wanted}")
        if kind is float and not math.isfinite(value):
            raise UserError(f"--config.{key}={value}: must be finite")


def meant(name, known, prefix=""):
    """A hint at the known name that is closest, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""

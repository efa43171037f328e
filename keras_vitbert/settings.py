"""From the command line to a checked config."""

import dataclasses
import difflib
import importlib.util
import math
import os

from keras_vitbert.command_line import UserError, one_line, parse_flags


@dataclasses.dataclass(frozen=True)
class Variant:
    """A row of the paper's Table 1.

    Attributes:
        images, text: bool, what it is trained on.
        distillation: bool, whether teachers are used.
        masks: bool, whether gradients are masked.
    """

    images: bool = True
    text: bool = True
    distillation: bool = False
    masks: bool = False


VARIANTS = {
    "bert": Variant(images=False),
    "vit": Variant(text=False),
    "joint": Variant(),
    "vitbert": Variant(distillation=True, masks=True),
    "vitbert_no_kd": Variant(masks=True),
    "vitbert_no_gm": Variant(distillation=True),
}
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
            f"{_meant(base, CONFIGS)}"
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
        f"--config.{key}: the config has no such key{_meant(key, known, '--config.')}; "
        "config.json of a run lists them all"
    )


def check_config(config):
    """Refuses settings that cannot work.

    Raises:
        UserError: names the key and the mend.
    """
    flat = flatten(config)

    def require(condition, key, mend):
        if not condition:
            raise UserError(f"--config.{key}={flat[key]}: {mend}")

    for key in ("steps", "image_batch", "text_batch", "steps_per_epoch", "validation_interval"):
        require(flat[key] >= 1, key, "must be at least 1")
    for key in ("checkpoint_interval", "checkpoints_to_keep", "merge.mask_update_interval"):
        require(flat[key] >= 1, key, "must be at least 1")
    for key in ("image_size", "patch_size", "num_classes", "vocabulary_size", "num_layers"):
        require(flat[f"model.{key}"] >= 1, f"model.{key}", "must be at least 1")
    heads, patch = flat["model.num_heads"], flat["model.patch_size"]
    require(heads >= 1, "model.num_heads", "must be at least 1")
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
    require(flat["optimizer.clip_norm"] > 0, "optimizer.clip_norm", "must be above 0")
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
    require(
        0 < flat["data.images.central_crop"] <= 1,
        "data.images.central_crop",
        "must be above 0 and at most 1",
    )
    if not all(math.isfinite(v) for v in flat.values() if isinstance(v, float)):
        raise UserError("the config holds a number that is not finite")


def find_variant(name):
    """The variant of a name.

    Raises:
        UserError: there is none.
    """
    if name not in VARIANTS:
        raise UserError(
            f"--variant={name}: no such variant; give one of {', '.join(VARIANTS)}"
            f"{_meant(name, VARIANTS)}"
        )
    return VARIANTS[name]


def apply_variant(config, variant):
    """The config as a variant runs it: what the variant does without is turned off in it.

    Args:
        config: `ConfigDict`; not changed.
        variant: `Variant`.
    """
    config = config.copy_and_resolve_references()
    if not (variant.distillation and config.distillation.ratio):
        config.distillation.ratio = 0.0
    if not variant.masks:
        config.merge.name = "sum"
    return config


def teacher_config(config, steps):
    """The config of a teacher that is made on demand: the student's, without what is joint."""
    config = config.copy_and_resolve_references()
    config.distillation.ratio = 0.0
    config.merge.name = "sum"
    if steps:
        config.steps = steps
    return config


def _meant(name, known, prefix=""):
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""

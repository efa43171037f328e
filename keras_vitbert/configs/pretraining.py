"""Loads a pre-training config by name, checks it, and resolves what depends on the devices."""

import functools
import importlib.util
import os

from keras_vitbert.configs import architecture, merges, optimizers
from keras_vitbert.configs.checks import DTYPES, Requirements, check_types
from keras_vitbert.configs.devices import (
    JIT_COMPILE,
    SHARDINGS,
    check_sharding,
    dtype_for_devices,
    jit_for_devices,
    largest_execution,
    most_steps_an_execution,
    unfit_layers,
)
from keras_vitbert.configs.fitting import execution_ends, fit_pretraining, overrides_that_work
from keras_vitbert.configs.overrides import flatten
from keras_vitbert.configs.variants import mask_problem
from pipelines.command_line import meant, one_line, say
from pipelines.images.layer_notation import refuse_on_jax, require_for_tpu
from pipelines.text.casing import CASES

CONFIGS = ("sample", "small", "paper")
# Sizes of the model that follow from the data where they are 0, with the paper's values.
PAPER_SIZES = {"num_classes": 1_000, "vocabulary_size": 30_000, "max_sequence_length": 512}
_ROWS_DIFFER = "the number of rows differs from step to step"
_TEACHERS = ("teachers.image_steps", "teachers.text_steps")
_MASK_INTERVAL = "merge.mask_update_interval"
_NO_DATA = (
    "the config lacks data (docs/data.md shows how to make them; --config=sample has its own)"
)
_OF_MASKS = ("steps", "merge.name", "merge.mask_ratio", "merge.mask_ratio_per_update")


def load_config(name):
    """Loads `sample`, `small`, `paper` or `FILE.py`, optionally followed by `:SIZE`.

    Args:
        name: str. A file defines `get_config()` or `get_config(size)`, which returns a
            `ConfigDict`. Keys that it lacks get the defaults of `paper`, which is reported.

    Raises:
        ValueError: there is no such config, or it fails.
    """
    base, colon, size = name.partition(":")
    if colon and not size:
        raise ValueError(
            f"--config={name}: no size follows the colon; give one, such as {base}:tiny"
        )
    path = base
    if base in CONFIGS:
        path = os.path.join(os.path.dirname(__file__), f"{base}.py")
    if not path.endswith(".py") or not os.path.isfile(path):
        raise ValueError(
            f"--config={name}: no such config; give {', '.join(CONFIGS)} or a file FILE.py"
            f"{meant(base, CONFIGS)}"
        )
    try:
        spec = importlib.util.spec_from_file_location("config_file", path)
        assert spec is not None and spec.loader is not None  # None only for other extensions
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config(size) if size else module.get_config()
        flatten(config)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # a file may fail in any way
        raise ValueError(f"--config={name}: {type(error).__name__}: {one_line(error)}") from error
    may_lack = base not in CONFIGS and hasattr(config, "unlocked")
    if may_lack and (added := _complete(config, load_config("paper"))):
        values = ", ".join(f"{key}={value}" for key, value in flatten(added).items())
        say(f"--config={name}: lacks keys, which get their defaults: {values}")
    return config


def _complete(config, defaults):
    """Adds the keys that a config lacks, perhaps because it was written for an older version.

    Returns:
        dict, what was added.
    """
    added = {}
    for key, default in defaults.items():
        if key not in config:
            with config.unlocked():
                config[key] = added[key] = default
        elif hasattr(default, "items") and hasattr(config[key], "unlocked"):
            added |= {key: more} if (more := _complete(config[key], default)) else {}
    return added


def with_sizes(config, found=None):
    """Resolves the sizes of `model` that are 0.

    Args:
        config: checked `ConfigDict`; not changed.
        found: dict of a name in `PAPER_SIZES` to the size in the data; the paper's for others.

    Returns:
        A new `ConfigDict`.
    """
    config = config.copy_and_resolve_references()
    for name, size in {**PAPER_SIZES, **(found or {})}.items():
        config.model[name] = config.model[name] or size
    return config


def for_devices(config, on_tpu, gpus=(), shared=False, on_jax=False):
    """Resolves what a config leaves to the devices.

    These are `dtype` and `jit_compile` if "auto", and `steps_per_execution` if 0.

    Args:
        config: checked `ConfigDict`; not changed.
        on_tpu: bool.
        gpus: sequence of (int, int), the compute capability of each GPU; empty without GPUs.
        shared: bool, whether a strategy shares batches among replicas.
        on_jax: bool, whether JAX computes the steps.

    Returns:
        A new `ConfigDict`.

    Raises:
        ValueError: the devices cannot do what the config asks for.
    """
    check_for_xla(config, on_tpu, on_jax)
    config = config.copy_and_resolve_references()
    config.dtype = dtype_for_devices(config.dtype, on_tpu, gpus)
    unfit = unfit_layers(config.data.images.layers, "data.images.layers")
    if config.data.packing:
        unfit = f"--config.data.packing=True: {_ROWS_DIFFER}, and each would be a program"
    config.jit_compile = jit_for_devices(config.jit_compile, on_tpu, gpus, shared, unfit, on_jax)
    if not config.steps_per_execution:
        flat, most = flatten(config), most_steps_an_execution(on_tpu, gpus)
        ends = [flat[key] for key in execution_ends(flat)]
        config.steps_per_execution = largest_execution(most, ends)
    return config


def check_for_xla(config, on_tpu, on_jax=False):
    """Refuses what a TPU or JAX cannot do.

    Args:
        config: checked `ConfigDict`.
        on_tpu, on_jax: bool.

    Raises:
        ValueError: there are image layers that cannot be compiled, or texts are packed.
    """
    check_sharding(config.sharding, on_jax)
    layers, key = config.data.images.layers, "data.images.layers"
    if on_jax:
        refuse_on_jax(layers, key)
    if on_tpu:
        require_for_tpu(layers, key)
    if config.data.packing and (on_tpu or on_jax):
        raise ValueError(
            f"--config.data.packing=True: {_ROWS_DIFFER}, and the program of "
            f"{'a TPU' if on_tpu else 'JAX'} has one shape; leave it out"
        )


def check_config(config, variant=None, given=None, conflicts=True, needs_data=False):
    """Refuses settings that cannot work, all of them in one error.

    Args:
        config: `ConfigDict`.
        variant: `keras_vitbert.configs.variants.Variant`; without one, the schedule of the masks
            is not checked.
        given: `keras_vitbert.configs.overrides.Given`. With it, an error ends with overrides that
            make the values compatible, if any are found.
        conflicts: bool, whether values must also be compatible.
        needs_data: bool, whether the variant's data must be named.

    Raises:
        ValueError: names the keys and the fixes.
    """
    flat = flatten(config)
    known = flatten(load_config("paper"))
    for key in known:
        if key not in flat:
            raise ValueError(f"the config has no {key}; begin with keras_vitbert.configs.paper")
    check_types(flat, known)
    keys = given.keys if given is not None else frozenset()
    check = functools.partial(_checked, known=known, variant=variant, given=keys)
    checks, works = check(flat), ""
    if conflicts and given is not None and (checks.conflicts or len(checks.problems) > 1):
        fit = functools.partial(fit_pretraining, masks=variant is not None and variant.masks)
        works = overrides_that_work(flat, given, check, fit)
    if needs_data and (missing := _missing_data(flat, variant)):
        works = f"{works} {missing}".strip() if works or not checks.problems else ""
        checks.problems["data"] = _NO_DATA
    checks.raise_problems(conflicts, works)


def _missing_data(flat, variant):
    """Arguments that name the data missing from a config; empty if none are missing."""
    keys = [f"data.images.{split}" for split in ("train", "validation") if variant.images]
    keys += [f"data.text.{split}" for split in ("train", "validation") if variant.text]
    values = dict.fromkeys(keys, "PATTERN")
    if variant.text:
        values["data.vocabulary"] = "FILE"
    missing = [key for key in values if flat["data.source"] == "files" and not flat[key]]
    return " ".join(f"--config.{key}={values[key]}" for key in missing)


def _checked(flat, known, variant, given):
    """The `Requirements` of a flat config whose types are right."""
    checks = Requirements(flat)
    require = checks.require

    checks.at_least(1, "steps", "image_batch", "text_batch", "steps_per_epoch")
    checks.at_least(1, "validation_interval", "checkpoint_interval", "checkpoints_to_keep")
    checks.at_least(1, "accumulation")
    checks.at_least(0, "steps_per_execution")
    checks.at_least(0, "inspection.activation_interval", "inspection.gradient_interval")
    checks.at_least(1, "inspection.activation_examples", "data.text.masking.max_predictions")
    checks.at_least(0, "probes.interval")
    checks.at_least(4, "probes.examples")
    checks.require_beside(
        lambda: not (flat["probes.interval"] and flat["data.packing"]),
        "probes.interval",
        ("data.packing",),
        "must be 0 with data.packing, which puts several texts into a row",
    )
    sizes = [f"model.{name}" for name in PAPER_SIZES]
    checks.at_least(0, *sizes)
    others = (key for key in flat if key.startswith("model.") and key not in sizes)
    kinds = {f"model.{name}" for name in architecture.DEFAULTS}
    checks.at_least(1, *(key for key in others if key != "model.dropout" and key not in kinds))
    model = {key.removeprefix("model."): flat[key] for key in kinds}
    for name, fix in architecture.problems(model).items():
        require(False, f"model.{name}", fix)
    require(0 <= flat["seed"] < 2**32, "seed", "must be in [0, 2**32)")
    checks.multiple("model.hidden_dim", "model.num_heads")
    checks.multiple("model.image_size", "model.patch_size")
    checks.must_be("in [0, 1]", "distillation.ratio")
    merges.check(checks, given, variant)
    checks.must_be("in [0, 1)", "model.dropout")
    optimizers.check(checks, known)
    checks.must_be("in (0, 1)", "data.text.masking.ratio")
    checks.at_least(0, "distillation.temperature")
    checks.at_least(0, "optimizer.warmup_steps", *_TEACHERS)
    checks.require_beside(
        lambda: flat["optimizer.warmup_steps"] < flat["steps"],
        "optimizer.warmup_steps",
        ("steps",),
        f"must be below steps, which is {flat['steps']}",
    )
    for key in _TEACHERS:
        warmup = flat["optimizer.warmup_steps"]
        checks.require_beside(
            lambda key=key, warmup=warmup: flat[key] == 0 or flat[key] > warmup,
            key,
            ("optimizer.warmup_steps",),
            f"must be 0 (as many as the student) or above optimizer.warmup_steps, {warmup}",
        )
    checks.multiple("validation_interval", "steps_per_epoch")
    checks.one_of("dtype", DTYPES)
    checks.one_of("jit_compile", JIT_COMPILE)
    checks.one_of("sharding", SHARDINGS)
    checks.executions(execution_ends(flat))
    checks.one_of("data.source", ("sample", "files"))
    checks.one_of("data.case", CASES)
    checks.image_views("data.images.", "image_batch")
    if variant is not None and checks.problems.keys().isdisjoint((_MASK_INTERVAL, *_OF_MASKS)):
        if problem := mask_problem(flat, variant):
            checks.problems[_MASK_INTERVAL] = problem
            checks.conflicts.add(_MASK_INTERVAL)
    return checks

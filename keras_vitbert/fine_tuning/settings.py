"""From the command line to a checked config of fine-tuning."""

import functools
import math

from keras_vitbert.configs import architecture, fine_tuning, optimizers
from keras_vitbert.configs.architecture import IMAGE_HEADS, TEXT_HEADS
from keras_vitbert.configs.checks import DTYPES, Requirements, check_types
from keras_vitbert.configs.devices import (
    JIT_COMPILE,
    SHARDINGS,
    check_sharding,
    dtype_for_devices,
    jit_for_devices,
    largest_execution,
    unfit_layers,
)
from keras_vitbert.configs.fitting import execution_ends, fit_fine_tuning, overrides_that_work
from keras_vitbert.configs.overrides import flatten, parse_with_config
from keras_vitbert.configs.parts import OF_FINE_TUNING, resolve_parts
from keras_vitbert.configs.quick import quick_fine_tuning
from keras_vitbert.fine_tuning import tasks
from keras_vitbert.trained.places import require_place
from pipelines.images.layer_notation import refuse_on_jax, require_for_tpu
from pipelines.tasks.tables import SUFFIXES
from pipelines.text.casing import CASES

# Flags that name a checkpoint and a task's data.
INPUT_FLAGS = (
    (
        "checkpoint",
        "",
        "a run of pretrain or finetune, a preset, a BERT or ViT of another project; or rand, "
        "for random weights",
    ),
    (
        "task",
        "",
        f"one of {', '.join(tasks.TASKS)}; for your own data it is detected",
    ),
    (
        "data_dir",
        "",
        "the data: a folder of images (train/CLASS/*.jpg, perhaps validation/ and test/, or "
        "CLASS/*.jpg), of tables (train.csv, ...), a saved data set, or TFDS' data folder",
    ),
    (
        "train",
        "",
        f"the training examples: a table ({', '.join(SUFFIXES)}) of texts or of images, or a "
        "folder of images",
    ),
    ("validation", "", "likewise, to pick settings on; reported too"),
    ("test", "", "likewise, to report on"),
    (
        "architecture",
        "",
        "for rand: a checkpoint whose architecture to use, or a config of pretrain (default: "
        "paper)",
    ),
    ("vocabulary", "", "a vocabulary file, for text if the checkpoint has none"),
    ("download", False, "let TFDS download missing data"),
    ("max_bad_records", 0, "how many damaged rows of tables may be skipped", 0),
)
CONFIG_HELP = "--config.KEY=VALUE changes a value of the task's config"
_POINTS = 20  # points of a curve: at least for training, at most for evaluation
_LONGEST_EPOCH = 100  # steps
_OF_EVALUATION = 0.03  # share of the model's work; under 5 % with decoding and measures


def require_checkpoint(values):
    """Refuses a command line without a checkpoint, or with the path of none.

    Args:
        values: `absl.flags.FlagValues`.

    Raises:
        ValueError: it names none, or nothing is there.
    """
    if not values.checkpoint:
        raise ValueError(
            "--checkpoint is missing; give the folder of a pre-training run, or rand for random "
            "weights"
        )
    require_place(values.checkpoint)


def parse(argv, define_flags, usage):
    """Parses flags and the overrides of the task's config.

    Args:
        argv: list of str, without the program's name.
        define_flags: callable that defines flags, `task` and perhaps `quick` among them, on an
            `absl.flags.FlagValues`.
        usage: str, printed above the flags by `--help`.

    Returns:
        (`FlagValues`, `Task`, `ConfigDict`, `Given`).

    Raises:
        ValueError: a flag or a key is wrong, or the task is unknown.
        SystemExit: `--help` was asked for.
    """
    chosen = []

    def choose(values, for_help):  # it looks at the files of a user's own data: only once
        chosen.append(_choose_task(values, for_help))
        return choose_config(values, for_help, chosen[0])

    values, config, given = parse_with_config(
        argv, define_flags, choose, usage, CONFIG_HELP, OF_FINE_TUNING, _listed
    )
    [task] = chosen
    optimizers.with_own_values(config, given)
    is_quick = "quick" in values and values.quick  # `probe` has no such flag
    if is_quick or given.parts:
        check_config(config, task, conflicts=False)
    if not is_quick:  # else the steps depend on the model, see `quick_for`
        config = with_parts(config, task, given)
    return values, task, config, given


def quick_for(config, task, given, model, trials):
    """The config of `--quick` for the model of a checkpoint; reports what was shrunk.

    Args:
        config: `ConfigDict`, of `parse`; not changed.
        task: `keras_vitbert.fine_tuning.tasks.Task`.
        given: `Given`, of `parse`.
        model: dict, the `model` section of the checkpoint.
        trials: int, how many trainings there are.

    Returns:
        A new, checked `ConfigDict`.

    Raises:
        ValueError: see `check_config`.
    """
    return with_parts(quick_fine_tuning(config, given, task.kind, model, trials), task, given)


def with_parts(config, task, given, count=0):
    """The config with fractions of a run turned into whole steps.

    Args:
        config: `ConfigDict`; not changed.
        task: `keras_vitbert.fine_tuning.tasks.Task`.
        given: `Given`, of `parse`.
        count: int, training examples, which may determine the steps; 0 if not known yet.

    Returns:
        A new, checked `ConfigDict`.

    Raises:
        ValueError: see `check_config`.
    """
    config = resolve_parts(config, given, steps_of(config, count) if count else 0)
    check_config(config, task, given)
    return config


def _choose_task(values, for_help=False):
    no_task = for_help and not values.task
    return tasks.find_task("cifar10") if no_task else tasks.choose_task(values)


def choose_config(values, for_help=False, task=None):
    """The config of the task that the flags name.

    Args:
        values: `absl.flags.FlagValues`.
        for_help: bool, whether `--help` is given; without a task, it shows the config of one.
        task: `Task`, if it is known.

    Returns:
        `ConfigDict`.

    Raises:
        ValueError: the task is unknown, or `--config` is given.
    """
    task = task or _choose_task(values, for_help)
    if values.config is not None:
        raise ValueError(
            f"--config={values.config}: a task has its own config; change it with "
            "--config.KEY=VALUE"
        )
    return fine_tuning.get_config(task.name, task.kind)


def _listed(values):
    """The configs that `--help` lists: the task's, or else one for own data of each kind."""
    if values.task:
        return {"": choose_config(values)}
    kinds = {task.kind: task for task in tasks.TASKS.values()}
    return {f"of {kind}: ": fine_tuning.get_config(task.name, kind) for kind, task in kinds.items()}


def for_devices(config, on_tpu, gpus=(), shared=False, on_jax=False):
    """The config with the settings that depend on the devices.

    On TPUs and with JAX, texts are padded to one length, as each length is a separate program.
    A `steps_per_execution` of 0 stays: it follows from the steps, see `with_intervals`.

    Args:
        config: checked `ConfigDict`; not changed.
        on_tpu: bool.
        gpus: sequence of (int, int), the compute capability of each GPU; empty without GPUs.
        shared: bool, whether a strategy splits batches among replicas.
        on_jax: bool, whether JAX computes the steps.

    Returns:
        `ConfigDict`.

    Raises:
        ValueError: the devices cannot do what the config asks for.
    """
    check_for_xla(config, on_tpu, on_jax)
    config = config.copy_and_resolve_references()
    config.dtype = dtype_for_devices(config.dtype, on_tpu, gpus)
    if (on_tpu or on_jax) and "buckets" in config:
        config.buckets = ()
    layers = config.images.layers if "images" in config else ()
    unfit = unfit_layers(layers, "images.layers")
    config.jit_compile = jit_for_devices(config.jit_compile, on_tpu, gpus, shared, unfit, on_jax)
    return config


def check_for_xla(config, on_tpu, on_jax=False):
    """Refuses what the devices or the backend cannot do.

    Args:
        config: checked `ConfigDict`.
        on_tpu, on_jax: bool.

    Raises:
        ValueError: there are image layers that cannot be compiled, or weights are to be divided
            among devices and the backend is not JAX.
    """
    check_sharding(config.sharding, on_jax)
    if "images" in config and on_jax:
        refuse_on_jax(config.images.layers, "images.layers")
    if "images" in config and on_tpu:
        require_for_tpu(config.images.layers, "images.layers")


def check_config(config, task, given=None, conflicts=True):
    """Refuses settings that cannot work, all of them at once.

    Args:
        config: `ConfigDict`.
        task: `keras_vitbert.fine_tuning.tasks.Task`.
        given, conflicts: see `keras_vitbert.configs.pretraining.check_config`.

    Raises:
        ValueError: names the keys and the fixes.
    """
    flat, defaults = flatten(config), flatten(fine_tuning.get_config(task.name, task.kind))
    check_types(flat, defaults)
    check = functools.partial(_checked, defaults=defaults, task=task)
    checks, works = check(flat), ""
    if conflicts and given is not None and (checks.conflicts or len(checks.problems) > 1):
        works = overrides_that_work(flat, given, check, fit_fine_tuning)
    checks.raise_problems(conflicts, works)


def _checked(flat, defaults, task):
    """The `Requirements` of a flat config whose types are right."""
    chosen = [key for key in fine_tuning.open_keys(flat) if flat[key] == defaults[key]]
    checks = Requirements(flat, chosen)
    require = checks.require
    checks.at_least(1, "batch", "evaluation_batch", "checkpoint_interval", "checkpoints_to_keep")
    checks.at_least(1, "accumulation")
    checks.at_least(0, "steps", "steps_per_epoch", "steps_per_execution", "lora_rank")
    checks.at_least(0, "test_examples")
    checks.at_least(-1, "evaluation_interval")
    require(0 <= flat["seed"] < 2**31, "seed", "must be in [0, 2**31)")
    checks.one_of("dtype", DTYPES)
    checks.one_of("jit_compile", JIT_COMPILE)
    checks.one_of("sharding", SHARDINGS)
    checks.executions(execution_ends(flat))
    checks.one_of("metric", ("accuracy", "f1", "mcc"))
    checks.one_of("head", IMAGE_HEADS if task.kind == "images" else TEXT_HEADS)
    checks.one_of("optimizer.schedule", ("cosine", "polynomial"))
    optimizers.check(checks, defaults)
    checks.must_be(
        "in [0, 1)", "dropout", "stochastic_depth", "label_smoothing", "optimizer.warmup"
    )
    is_rate = architecture.is_attention_dropout(flat["attention_dropout"])
    require(is_rate, "attention_dropout", architecture.ATTENTION_DROPOUT)
    checks.must_be("in (0, 1]", "optimizer.layer_decay")
    checks.must_be("in (0, 1)", "selection_part")
    rates = flat["grid"]
    are_rates = rates and all(0 < rate < math.inf for rate in rates)
    require(are_rates, "grid", "must be rates above 0")
    require(len(set(rates)) == len(rates), "grid", "holds a rate twice; leave one out")
    if flat["optimizer.schedule"] == "cosine":
        optimizers.no_effect_beside(checks, defaults, "optimizer.power", "optimizer.schedule")
    if flat["steps_per_epoch"] > 0 and flat["evaluation_interval"] > 0:
        checks.multiple("evaluation_interval", "steps_per_epoch")
    if task.kind == "images":
        checks.at_least(1, "image_size", "steps")
        checks.image_views("images.", "batch")
    else:
        require(0 < flat["epochs"] <= 1e6, "epochs", "must be above 0 and at most a million")
        require(
            flat["max_length"] == 0 or flat["max_length"] >= 5,
            "max_length",
            "must be 0 (as the checkpoint) or at least 5",
        )
        buckets = flat["buckets"]
        require(
            all(isinstance(length, int) and length >= 5 for length in buckets)
            and sorted(set(buckets)) == buckets,
            "buckets",
            "must be ascending lengths of at least 5 tokens",
        )
        columns = [name for name in flat["data.sentence_columns"].split(",") if name]
        require(len(columns) <= 2, "data.sentence_columns", "must be one or two names")
        checks.one_of("data.case", CASES)
    return checks


def changed_keys(config, task):
    """The keys of a config that differ from the task's own.

    Args:
        config: `ConfigDict`.
        task: `keras_vitbert.fine_tuning.tasks.Task`.

    Returns:
        list of str, dotted keys.
    """
    flat, defaults = flatten(config), flatten(fine_tuning.get_config(task.name, task.kind))
    return [key for key in flat if flat[key] != defaults[key]]


def steps_of(config, count):
    """The number of training steps.

    Args:
        config: `ConfigDict`.
        count: int, training examples.

    Returns:
        int.
    """
    return config.steps or max(round(config.epochs * count / config.batch), 1)


def check_executions(config, counts):
    """Refuses a `steps_per_execution` that does not divide the steps that follow from the data.

    Args:
        config: checked `ConfigDict`.
        counts: sequence of int, the training examples of each kind of trial.

    Raises:
        ValueError: names the steps and the fix.
    """
    executed = max(config.steps_per_execution, 1)
    uneven = [steps for steps in (steps_of(config, count) for count in counts) if steps % executed]
    if uneven:
        fit = max(uneven[0] // executed, 1) * executed
        raise ValueError(
            f"--config.steps_per_execution={executed}: must be a divisor of the steps, which are "
            f"{' and '.join(map(str, uneven))} by the data; leave it out, or give "
            f"--config.steps={fit}"
        )


def with_intervals(config, count, evaluated, most_executed=1):
    """Resolves the numbers of steps that follow from the data.

    Args:
        config: `ConfigDict`; not changed.
        count: int, training examples.
        evaluated: int, examples that are evaluated during training.
        most_executed: int, the most steps per execution if the config does not set them.

    Returns:
        A new `ConfigDict` with `steps` and `steps_per_execution`. A `steps_per_epoch` of 0 is set
        for a curve of `_POINTS` points or more. An `evaluation_interval` of -1 is set to evaluate
        as often as the share `_OF_EVALUATION` of the work allows, or to 0 if that is never.
    """
    config = config.copy_and_resolve_references()
    config.steps, interval = steps_of(config, count), config.evaluation_interval
    if not config.steps_per_epoch:
        executed = max(config.steps_per_execution, 1)
        longest = max(min(config.steps // _POINTS, _LONGEST_EPOCH), executed)
        config.steps_per_epoch = max(
            steps
            for steps in range(executed, longest + 1, executed)
            if interval < 1 or interval % steps == 0
        )
    config.steps_per_epoch = min(config.steps_per_epoch, config.steps)
    if interval < 0:
        # A training step costs as much as evaluating its examples three times; the last batch of an
        # evaluation is padded.
        each = -(-evaluated // config.evaluation_batch) * config.evaluation_batch
        affordable = int(_OF_EVALUATION * 3 * config.steps * config.batch / each)
        points, epochs = min(affordable, _POINTS), config.steps // config.steps_per_epoch
        config.evaluation_interval = config.steps_per_epoch * -(-epochs // points) if points else 0
    if not config.steps_per_execution:
        flat = flatten(config)
        ends = [flat[key] for key in execution_ends(flat)]
        config.steps_per_execution = largest_execution(most_executed, ends)
    return config

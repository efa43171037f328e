"""`--quick`: what it makes of every config passes all checks, and is small."""

import pathlib

import pytest

import keras_vitbert
from keras_vitbert.configs.overrides import flatten
from keras_vitbert.configs.sizes import SIZES
from keras_vitbert.configs.variants import VARIANTS, mask_problem
from keras_vitbert.fine_tuning import settings
from keras_vitbert.fine_tuning.tasks import TASKS
from keras_vitbert.finetune import define_flags
from tests.keras_vitbert.configs.command_lines import CONFIG_FILE, parsed_config

NAMES = [f"{base}:{size}" for base in ("paper", "sample") for size in SIZES]
CONFIGS = pathlib.Path(keras_vitbert.__file__).parent / "configs"


def operations(config):
    """Of the encoder in all steps of the student, by its products alone."""
    model = config.model
    image_tokens = (model.image_size // model.patch_size) ** 2 + 1
    lengths = {"files": 512, "sample": 64}
    text_tokens = model.max_sequence_length or lengths[config.data.source]
    weights = 4 * model.hidden_dim**2 + 2 * model.hidden_dim * model.intermediate_dim
    tokens = config.image_batch * image_tokens + config.text_batch * text_tokens
    return 6 * weights * model.num_layers * tokens * config.steps


@pytest.mark.parametrize("name", NAMES)
def test_every_config_is_shrunk_to_a_short_run(name, capsys):
    config = parsed_config(f"--config={name}", "--quick")
    err = capsys.readouterr().err
    assert err.startswith("--quick: ") and err.count("\n") == 1
    assert operations(config) < 15e12  # some four minutes of two cores
    assert 20 <= config.steps <= 500
    assert config.model.hidden_dim <= 128 and config.model.num_layers <= 2
    assert 5 <= config.steps // config.steps_per_epoch <= 30  # points of a curve
    assert config.validation_interval <= config.steps
    assert mask_problem(flatten(config), VARIANTS["vitbert"]) is None
    # What it says is what differs from the config itself.
    plain = flatten(parsed_config(f"--config={name}"))
    changed = {key: value for key, value in flatten(config).items() if value != plain[key]}
    assert {f"{key}={value}" for key, value in changed.items()} == (
        set(err.removeprefix("--quick: ").strip().split(", ")) if changed else set()
    )


def test_no_config_is_left_out():
    """The modules that `--config` may name are those above."""
    found = {
        path.stem for path in CONFIGS.glob("*.py") if "def get_config(size" in path.read_text()
    }
    assert found == {name.partition(":")[0] for name in NAMES}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant(variant):
    config = parsed_config("--config=paper", "--quick", f"--variant={variant}")
    assert config.steps <= 500


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CONFIG_FILE.replace("steps = 77", "steps = 100_000"))
    config = parsed_config(f"--config={path}", "--quick")
    assert (config.model.num_layers, config.model.image_size) == (2, 28)
    assert config.steps <= 500 and config.optimizer.warmup_steps == 5  # it was small


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 20},
        {"steps": 3, "merge.mask_ratio_per_update": 0.5},
        {"validation_interval": 33, "optimizer.warmup_steps": 7},
        {"model.num_layers": 12, "model.hidden_dim": 192},
        {"model.image_size": 100},
        {"model.patch_size": 24},
        {"image_batch": 3, "text_batch": 5, "seed": 9},
        {"merge.mask_update_interval": 31, "steps_per_execution": 1},
        {"data.images.mixup": 0.4, "optimizer.learning_rate": 1e-4},
    ],
)
def test_what_is_given_is_kept(values):
    given = [f"--config.{key}={value}" for key, value in values.items()]
    flat = flatten(parsed_config("--config=paper", "--quick", *given))
    assert {key: flat[key] for key in values} == values
    # At another place in the command line, the same.
    assert flatten(parsed_config(*given, "--config=paper", "--quick")) == flat


def test_parts_are_those_of_the_short_run():
    config = parsed_config("--config=paper", "--quick", "--config.validation_interval=0.25")
    assert config.validation_interval % config.steps_per_epoch == 0
    assert abs(config.validation_interval / config.steps - 0.25) < 0.05


def test_a_larger_model_gets_fewer_steps():
    small = parsed_config("--config=paper", "--quick")
    large = parsed_config("--config=paper", "--quick", "--config.model.hidden_dim=512")
    assert large.steps < small.steps


def test_what_weights_must_fit_is_kept():
    flags = ["--config=paper", "--quick"]
    config = parsed_config(*flags, "--initial_weights=x")
    assert flatten(config.model) == flatten(parsed_config("--config=paper").model)
    assert config.steps == 20 and config.image_batch < 64
    config = parsed_config(*flags, "--image_teacher=x")
    assert (config.model.image_size, config.model.num_layers) == (224, 2)


SAMPLE = {"image_size": 28, "patch_size": 7, "max_sequence_length": 64, **SIZES["sample"]}
BASE = {"image_size": 224, "patch_size": 16, "max_sequence_length": 512, **SIZES["base"]}


@pytest.mark.parametrize("name", TASKS)
def test_every_task(name, capsys):
    task = TASKS[name]
    argv = [f"--task={name}", "--quick"]
    _, _, config, given = settings.parse(argv, define_flags, "usage")
    for model, fewest in ((SAMPLE, 200), (BASE, 20)):
        small = settings.quick_for(config, task, given, model, trials=1)  # it checks them
        assert fewest <= small.steps <= 200 and small.steps_per_epoch <= small.steps // 10
        if task.kind == "images":
            assert small.image_size == model["image_size"]
        else:
            assert (small.max_length or model["max_sequence_length"]) <= 128
        assert capsys.readouterr().err.count("\n") == 1
    assert small.batch < 16 and small.test_examples < 1000  # of the large model
    swept = settings.quick_for(config, task, given, BASE, trials=5)
    assert swept.steps == 20 and swept.test_examples <= small.test_examples


def test_what_is_given_for_a_task_is_kept():
    argv = ["--task=rte", "--quick", "--config.epochs=1.5", "--config.max_length=200"]
    argv += ["--config.test_examples=0", "--config.evaluation_interval=10"]
    _, task, config, given = settings.parse(argv, define_flags, "usage")
    found = settings.quick_for(config, task, given, BASE, trials=1)
    assert (found.epochs, found.steps, found.max_length) == (1.5, 0, 200)  # the epochs hold
    assert (found.test_examples, found.evaluation_interval) == (0, 10)
    assert 10 % settings.with_intervals(found, 2_490, 277).steps_per_epoch == 0

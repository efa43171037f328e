"""Configs of pre-training: by their names, checked, and with what they leave to the devices."""

import pytest

from keras_vitbert.configs.pretraining import PAPER_SIZES, for_devices, with_sizes
from keras_vitbert.pretrain import main
from tests.keras_vitbert.configs.command_lines import CONFIG_FILE, FIXED, parse, parsed_config


@pytest.mark.parametrize(
    ("argv", "layers", "hidden", "image_size"),
    [
        (["--config=paper"], 12, 768, 224),
        (["--config", "paper:small"], 12, 384, 224),
        (["--config=paper:large"], 24, 1024, 224),
        (["-config=sample:tiny"], 12, 192, 28),
        (["--config=paper", "--config=sample"], 2, 128, 28),
    ],
)
def test_configs_and_sizes_by_name(argv, layers, hidden, image_size):
    model = parsed_config(*argv).model
    assert (model.num_layers, model.hidden_dim, model.image_size) == (layers, hidden, image_size)


def test_sizes_that_follow_from_the_data():
    found = {"num_classes": 7, "max_sequence_length": 40}
    config = parsed_config("--config=paper", "--config.model.max_sequence_length=64")
    model = with_sizes(config, found).model
    sizes = [model.num_classes, model.vocabulary_size, model.max_sequence_length]
    assert sizes == [7, 30_000, 64]
    assert config.model.num_classes == 0  # it is not changed
    config = parsed_config("--config=paper")
    assert [config.model[name] for name in PAPER_SIZES] == [0, 0, 0]
    model = with_sizes(config).model
    sizes = [model.num_classes, model.vocabulary_size, model.max_sequence_length]
    assert sizes == [1000, 30_000, 512]  # the paper's


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CONFIG_FILE)
    config = parsed_config(f"--config={path}", "--config.optimizer.warmup_steps=3")
    assert (config.steps, config.model.hidden_dim, config.optimizer.warmup_steps) == (77, 192, 3)
    assert parsed_config("--config", f"{path}:small").model.hidden_dim == 384


def test_a_file_of_an_older_version_is_completed(tmp_path, capsys):
    path = tmp_path / "mine.py"
    change = "del config.optimizer.power, config.distillation, config.checkpoints_to_keep"
    path.write_text(CONFIG_FILE.replace("    return config", f"    {change}\n    return config"))
    config = parsed_config(f"--config={path}", "--config.distillation.ratio=0.5")
    assert (config.optimizer.power, config.checkpoints_to_keep) == (1.0, 3)
    assert config.distillation.to_dict() == {"ratio": 0.5, "temperature": 1.0}
    assert capsys.readouterr().err == (
        f"--config={path}: lacks keys, which get their defaults: checkpoints_to_keep=3, "
        "distillation.ratio=1.0, distillation.temperature=1.0, optimizer.power=1.0\n"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "config = config.to_dict(); config['optimizer'] = 1",
            "has no optimizer.beta_1; ",
        ),
        ("config.optimizer.lerning_rate = 1.0", r"holds optimizer.lerning_rate, .*learning_rate\?"),
        ("config = config.to_dict(); config['steps'] = '5'", "steps='5': must be of type int"),
        ("config = config.to_dict(); config['steps'] = True", "steps=True: must be of type int"),
        ("config = config.to_dict(); config['seed'] = 1.0", "seed=1.0: must be of type int"),
        ("config = config.to_dict(); config['dtype'] = 32", "dtype=32: must be of type str"),
        ("config = config.to_dict(); config['data']['images']['flip'] = 1", "flip=1: .* bool"),
    ],
)
def test_a_file_with_other_keys_or_types_is_told(tmp_path, change, message):
    path = tmp_path / "mine.py"
    lines = CONFIG_FILE.replace("    return config", f"    {change}\n    return as_config(config)")
    path.write_text(
        "from ml_collections import config_dict\n"
        "as_config = config_dict.ConfigDict\n" + lines  # from a dict it takes any type
    )
    with pytest.raises(ValueError, match=message):
        parse(f"--config={path}")


@pytest.mark.parametrize(
    "argument",
    [
        *("seed=4294967295", "model.dropout=0.99", "distillation.temperature=0"),
        *("merge.mask_ratio=1", "merge.mask_ratio_per_update=1"),
        *(
            "optimizer.warmup_steps=0",
            "optimizer.warmup_steps=499",
            "model.num_heads=8",
        ),
        *("teachers.image_steps=0", "teachers.image_steps=51", "optimizer.learning_rate=0"),
        *("data.images.crop_area=(1,1)", "validation_interval=100", "checkpoint_interval=1"),
        *("data.images.randaugment=(1,30)", "data.images.mixup=0.2"),
        *("data.images.layers=()", "data.images.layers=('GridMask', 'RandomHue(0.1)')"),
        *("inspection.activation_interval=0", "inspection.gradient_interval=0"),
        *("inspection.activation_examples=1", "inspection.gradient_interval=7"),
    ],
)
def test_settings_at_the_edge_work(argument):
    parsed_config(*FIXED, f"--config.{argument}")


def test_probes_of_packed_texts_are_refused():
    flags = ("--config.probes.interval=10", "--config.data.packing=True")
    for flag in flags:
        parsed_config(*FIXED, flag)
    with pytest.raises(ValueError, match="probes.interval=10.*must be 0 with data.packing"):
        parsed_config(*FIXED, *flags)


@pytest.mark.parametrize(
    "argv, dtype, steps",
    [
        # The largest number up to 100 that divides steps, epochs and intervals.
        (["--config=paper", "--tpu=v3-128"], "mixed_bfloat16", 100),
        (["--config=sample", "--tpu=local"], "mixed_bfloat16", 20),
        (["--config=paper", "--tpu=x", "--config.merge.mask_update_interval=70"], None, 10),
        (["--config=paper", "--tpu=x", "--config.steps_per_execution=5"], None, 5),
        (["--config=paper", "--tpu=x", "--config.dtype=float32"], "float32", 100),
        (["--config=paper"], "float32", 1),
        (["--config.steps_per_execution=5", "--config.dtype=mixed_bfloat16"], None, 5),
    ],
)
def test_what_is_left_to_the_devices(argv, dtype, steps):
    values, config = parse(*argv)
    before = config.to_dict()
    resolved = for_devices(config, values.tpu is not None)
    assert resolved.dtype == (dtype or "mixed_bfloat16")
    assert resolved.steps_per_execution == steps
    assert config.to_dict() == before


@pytest.mark.parametrize(
    ("argv", "gpus", "shared", "found"),
    [
        (["--config=paper"], [(9, 0)], False, ("mixed_bfloat16", "on", 10)),
        (["--config=sample"], [(7, 5)], False, ("float32", "on", 10)),
        (["--config=paper"], [(8, 0)] * 2, True, ("mixed_bfloat16", "off", 10)),
        (["--config=paper"], [], True, ("float32", "off", 1)),
        (["--config.data.packing=True"], [(8, 0)], False, ("mixed_bfloat16", "off", 10)),
        (["--config.jit_compile=on"], [], False, ("float32", "on", 1)),
        (
            ["--config.dtype=float32", "--config.jit_compile=off"],
            [(8, 0)],
            False,
            ("float32", "off", 10),
        ),
    ],
)
def test_what_gpus_get(argv, gpus, shared, found):
    config = for_devices(parse(*argv)[1], False, gpus, shared)
    assert (config.dtype, config.jit_compile, config.steps_per_execution) == found


@pytest.mark.parametrize(
    ("argv", "shared", "message"),
    [
        ([], True, "a step that several devices share; leave it out$"),
        (["--config.data.packing=True"], False, "packing=True: the number of rows differs"),
        (["--config.data.images.layers=('GridMask',)"], False, "GridMask .*images.layers.; leave"),
    ],
)
def test_what_xla_cannot_compile_is_refused(argv, shared, message):
    config = parse(*argv, "--config.jit_compile=on")[1]
    with pytest.raises(ValueError, match=f"^--config.jit_compile=on: .*{message}"):
        for_devices(config, False, [], shared)


def test_paper_is_the_config_of_tpus():
    with pytest.raises(ValueError, match="--tpu=v3-9: .*v3-8"):
        main(["--tpu=v3-9", "--config=sample"])
    for argv in (["--tpu", "v3-8"], ["--tpu=x"], ["--tpu="]):
        assert parsed_config(*argv).image_batch == 4096
    assert parsed_config("--tpu_address=x").image_batch == 128

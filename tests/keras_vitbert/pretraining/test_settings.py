import json
import subprocess
import sys

import pytest
from ml_collections import config_dict

from keras_vitbert.configs import paper, sample, variants
from keras_vitbert.configs.overrides import flatten
from keras_vitbert.configs.pretraining import for_devices
from keras_vitbert.pretrain import define_flags, main
from keras_vitbert.pretraining import settings
from pipelines import command_line
from pipelines.command_line import UserError

# The sample's numbers are tuned now and then; these stay.
FIXED = (
    *("--config.steps=700", "--config.steps_per_epoch=100", "--config.validation_interval=700"),
    *("--config.optimizer.warmup_steps=50", "--config.model.num_heads=4"),
    *("--config.model.hidden_dim=128", "--config.model.patch_size=7"),
    *("--config.teachers.image_steps=500", "--config.teachers.text_steps=700"),
)


def parse(*argv):
    return settings.parse(list(argv), define_flags, "usage")


def config_of(*argv):
    return parse(*argv)[1]


def test_defaults():
    values, config = parse()
    assert flatten(config) == flatten(sample.get_config())
    assert values.variant == "vitbert"
    assert values.output_dir == values.image_teacher == values.text_teacher == ""
    flat = flatten(config_of("--config=paper"))
    assert flat == flatten(paper.get_config()) and flat["steps"] == 1_000_000


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--config.steps=800", 800),
        ("--config.optimizer.learning_rate=3e-4", 3e-4),
        ("--config.optimizer.learning_rate=1", 1.0),
        ("--config.data.images.flip=true", True),
        ("--config.data.images.flip=False", False),
        ("--config.data.images.crop_area=(0.25, 1.0)", (0.25, 1.0)),
        ("--config.data.text.train=a b/*", "a b/*"),
        ("--config.data.vocabulary=12", "12"),
        ("-config.merge.name=sum", "sum"),
    ],
)
def test_overrides_keep_the_types(argument, value):
    config = config_of("--config=sample", argument, "--variant=bert")
    key = argument.lstrip("-").partition("=")[0].removeprefix("config.")
    section, _, last = key.rpartition(".")
    found = config
    for part in filter(None, section.split(".")):
        found = found[part]
    assert found[last] == value and type(found[last]) is type(value)
    # Nothing else has changed.
    found[last] = flatten(sample.get_config())[key]
    assert flatten(config) == flatten(sample.get_config())


def test_the_last_override_counts_and_the_order_of_flags_does_not():
    argv = ["--config.steps=800", "--variant", "bert", "--config.steps", "900", "--config=paper"]
    values, config = parse(*argv, "--config.optimizer.warmup_steps=0")
    assert (config.steps, config.model.num_layers, values.variant) == (900, 12, "bert")
    assert paper.get_config().steps == 1_000_000  # the defaults are not touched


@pytest.mark.parametrize(
    ("argv", "layers", "hidden", "image_size"),
    [
        (["--config=paper"], 12, 768, 224),
        (["--config", "paper:small"], 12, 384, 224),
        (["--config=paper:large"], 24, 1024, 224),
        (["-config=sample:tiny"], 12, 192, 28),
        (["--config=sample:"], 2, 128, 28),
        (["--config=paper", "--config=sample"], 2, 128, 28),
    ],
)
def test_configs_and_sizes_by_name(argv, layers, hidden, image_size):
    model = config_of(*argv).model
    assert (model.num_layers, model.hidden_dim, model.image_size) == (layers, hidden, image_size)


CONFIG_FILE = """
from keras_vitbert.configs import sample

def get_config(size="tiny"):
    config = sample.get_config(size)
    config.steps = 77
    config.optimizer.warmup_steps = 5
    return config
"""


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CONFIG_FILE)
    config = config_of(f"--config={path}", "--config.optimizer.warmup_steps=3")
    assert (config.steps, config.model.hidden_dim, config.optimizer.warmup_steps) == (77, 192, 3)
    assert config_of("--config", f"{path}:small").model.hidden_dim == 384


def test_a_config_gives_a_folder_its_name(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CONFIG_FILE)
    for argv, label in (
        ([f"--config={path}"], "mine"),
        (["--config", f"{path}:small"], "mine-small"),
        (["--variant=bert"], "sample"),
        (["--config=paper:small"], "paper-small"),
        (["--tpu=v3-8"], "paper"),
        (["--config=sample", "--tpu", "v3-8"], "sample"),
    ):
        assert settings.config_label(parse(*argv)[0]) == label


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = (", "SyntaxError"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1", "AttributeError: .*get_config"),
        ("def get_config():\n    return 3", "AttributeError"),
        ("def get_config():\n    return {'steps': 3}", "--config"),
        ("def get_config():\n    raise OSError('two\\nlines')", "OSError: two lines"),
    ],
)
def test_a_file_that_does_not_work_is_told(tmp_path, content, message):
    path = tmp_path / "mine.py"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        parse(f"--config={path}")


def test_a_signal_is_no_failure_of_the_file(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n" + CONFIG_FILE)
    assert command_line.run(main, [f"--config={path}"]) == command_line.EXIT_STOPPED
    assert capsys.readouterr().err == "stopped: by SIGTERM; run the same command again\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("del config.optimizer.power", "the config has no optimizer.power; begin with"),
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
    with pytest.raises(UserError, match=message):
        parse(f"--config={path}")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--config=sampel"], r"--config=sampel: no such config; .* \(did you mean sample\?\)"),
        (["--config=nowhere/mine.py"], "--config=nowhere/mine.py: no such config"),
        (["--config"], "flag --config; --help lists the flags"),
        (["--config="], "--config=: no such config"),
        (["--config=paper:huge"], "--config=paper:huge: .*unknown size 'huge'; known are sample"),
        (["--config.stepps=3"], r"--config.stepps: .* \(did you mean --config.steps\?\)"),
        (["--config.optimizer.beta=1"], "--config.optimizer.beta: the config has no such key"),
        (["--config.optimizer.x.y=1"], "--config.optimizer.x.y: the config has no such key"),
        (["--config.optimizer=1"], "--config.optimizer=1"),
        (["--config.steps=many"], "--config.steps=many"),
        (["--config.steps=1.5"], "--config.steps=1.5"),
        (["--config.steps"], "--config.steps"),
        (["--config.data.images.flip=perhaps"], "--config.data.images.flip=perhaps"),
        (["--config.data.images.crop_area=a"], "crop_area=.*must be of type list of numbers"),
        (["--varient=bert"], "'varient'. Did you mean: variant .*--help lists the flags"),
        (["--variant"], "--variant; --help lists the flags"),
        (["bert"], "unexpected argument 'bert'; --help lists the flags"),
        (["--variant=bert", "x", "--config.steps=600"], "unexpected argument 'x'"),
    ],
)
def test_bad_arguments_are_told(argv, message):
    with pytest.raises(UserError, match=message) as caught:
        parse(*argv)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "argument",
    [
        *(
            f"{key}=0"
            for key in (
                *("steps", "steps_per_epoch", "image_batch", "text_batch"),
                *("validation_interval", "checkpoint_interval", "checkpoints_to_keep"),
                *("model.image_size", "model.patch_size", "model.num_classes", "model.num_layers"),
                *("model.vocabulary_size", "model.num_heads", "model.hidden_dim"),
                *("model.intermediate_dim", "model.max_sequence_length"),
                *("merge.mask_update_interval", "optimizer.clip_norm", "optimizer.epsilon"),
                *("merge.mask_ratio_per_update", "data.images.central_crop"),
            )
        ),
        *("model.num_heads=5", "model.patch_size=8", "model.dropout=1", "model.dropout=-0.1"),
        *("model.hidden_dim=130", "model.hidden_dim=-4", "seed=-1", "seed=4294967296"),
        *("distillation.ratio=1.1", "distillation.ratio=-1", "distillation.temperature=-1"),
        *("merge.image_loss_ratio=2", "merge.mask_ratio=1.5", "merge.mask_ratio_per_update=2"),
        *("merge.name=masks", "dtype=float16", "data.source=file"),
        *("optimizer.warmup_steps=700", "optimizer.warmup_steps=-1", "optimizer.beta_1=1"),
        *("optimizer.beta_2=-0.1", "optimizer.learning_rate=-1", "optimizer.weight_decay=-1"),
        *("optimizer.power=-1", "optimizer.learning_rate=nan", "optimizer.learning_rate=1e999"),
        *("validation_interval=150", "steps_per_epoch=99"),
        *("teachers.image_steps=50", "teachers.text_steps=1", "teachers.text_steps=-1"),
        *("data.images.crop_area=(0,1)", "data.images.crop_area=(0.9,0.8)"),
        *("data.images.crop_area=(0.5,1.1)", "data.images.crop_area=(0.5,)"),
        *("data.images.central_crop=1.1", "data.images.mixup=-1", "data.images.cutmix=-0.1"),
        *("data.images.randaugment=(2,31)", "data.images.randaugment=(-1,9)"),
        *("data.images.randaugment=(2,)", "data.images.randaugment=(1,2.5)"),
        *("data.text.masking.ratio=0", "data.text.masking.ratio=1"),
        *("data.text.masking.max_predictions=0", "steps_per_execution=-1", "steps_per_execution=3"),
        *("steps_per_execution=1000", "inspection.activation_interval=-1"),
        *("inspection.gradient_interval=-1", "inspection.activation_examples=0"),
    ],
)
def test_settings_that_cannot_work_are_told(argument):
    with pytest.raises(UserError, match=r"--config\..*: must be|is not finite") as caught:
        parse(*FIXED, f"--config.{argument}")
    key = argument.partition("=")[0]
    culprits = {"model.num_heads": "model.hidden_dim", "model.patch_size": "model.image_size"}
    culprits["steps_per_epoch"] = "validation_interval"
    assert any(f"--config.{k}=" in str(caught.value) for k in (key, culprits.get(key, key)))


@pytest.mark.parametrize(
    "argument",
    [
        *("seed=4294967295", "model.dropout=0.99", "distillation.temperature=0"),
        *("merge.mask_ratio=1", "merge.mask_ratio_per_update=1", "merge.image_loss_ratio=0"),
        *(
            "optimizer.warmup_steps=0",
            "optimizer.warmup_steps=499",
            "steps=51",
            "model.num_heads=8",
        ),
        *("teachers.image_steps=0", "teachers.image_steps=51", "optimizer.learning_rate=0"),
        *("data.images.crop_area=(1,1)", "validation_interval=100", "checkpoint_interval=1"),
        *("data.images.randaugment=(1,30)", "data.images.mixup=0.2"),
        *("inspection.activation_interval=0", "inspection.gradient_interval=0"),
        *("inspection.activation_examples=1", "inspection.gradient_interval=7"),
    ],
)
def test_settings_at_the_edge_work(argument):
    config_of(*FIXED, f"--config.{argument}")


def test_table_1():
    """Rows of the paper's Table 1: trained on, distillation ratio, merge."""
    config = sample.get_config()
    rows = {}
    for name, variant in variants.VARIANTS.items():
        applied = variants.apply_variant(config, variants.find_variant(name))
        rows[name] = (variant.images, variant.text, applied.distillation.ratio, applied.merge.name)
        applied.distillation.ratio, applied.merge.name = config.distillation.ratio, "mask"
        assert applied == config  # nothing else differs, and the config itself is as it was
    assert rows == {
        "bert": (False, True, 0.0, "sum"),
        "vit": (True, False, 0.0, "sum"),
        "joint": (True, True, 0.0, "sum"),
        "vitbert": (True, True, 1.0, "mask"),
        "vitbert_no_kd": (True, True, 0.0, "mask"),
        "vitbert_no_gm": (True, True, 1.0, "sum"),
    }


def test_variants_keep_what_a_user_asks_for():
    config = config_of("--config.distillation.ratio=0.3", "--config.merge.name=random_mask")
    applied = variants.apply_variant(config, variants.find_variant("vitbert"))
    assert (applied.distillation.ratio, applied.merge.name) == (0.3, "random_mask")
    applied = variants.apply_variant(config, variants.find_variant("vitbert_no_gm"))
    assert (applied.distillation.ratio, applied.merge.name) == (0.3, "sum")
    config.merge.name = "sum"
    assert variants.apply_variant(config, variants.find_variant("vitbert")).merge.name == "sum"


def test_teachers_share_the_students_encoder():
    config = config_of("--config.distillation.ratio=0.5", "--config.seed=9")
    teacher = variants.teacher_config(config, 321)
    assert (teacher.steps, teacher.distillation.ratio, teacher.merge.name) == (321, 0.0, "sum")
    assert variants.teacher_config(config, 0).steps == config.steps > 0
    for key in ("model", "optimizer", "data", "seed", "image_batch", "text_batch"):
        assert teacher[key] == config[key]
    assert config.distillation.ratio == 0.5


def test_unknown_variant_is_told():
    with pytest.raises(UserError, match=r"--variant=vitbert_kd: .* bert, vit, .*did you mean vitb"):
        variants.find_variant("vitbert_kd")


def test_flatten():
    config = config_dict.ConfigDict({"a": 1, "b": {"c": (1, 2), "d": {"e": "x"}}})
    assert flatten(config) == {"a": 1, "b.c": [1, 2], "b.d.e": "x"}
    again = json.loads(json.dumps(config.to_dict()))
    assert flatten(again) == flatten(config)


def test_help_lists_flags_and_keys(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--variant", "--output_dir", "--image_teacher", "--text_teacher", "--config:"):
        assert f"  {flag}" in text
    for key, value in flatten(sample.get_config()).items():
        assert f"{key}={value}" in " ".join(text.split())


LIGHT = """
import sys
from keras_vitbert import pretrain
from pipelines import command_line
try:
    status = command_line.run(pretrain.main, sys.argv[1:])
except SystemExit as error:
    status = error.code
heavy = {"tensorflow", "keras", "keras_hub", "jax", "numpy"} & set(sys.modules)
print("status", status, "heavy", sorted(heavy))
"""


@pytest.mark.parametrize(
    ("argv", "status"),
    [(["--help"], 0), (["--variant=x"], 2), (["--config.steps=0"], 2), (["--flag"], 2)],
)
def test_help_and_bad_flags_do_not_load_tensorflow(argv, status):
    command = [sys.executable, "-c", LIGHT, *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == f"status {status} heavy []"


def test_the_command_itself_exits_with_its_status():
    command = [sys.executable, "-m", "keras_vitbert.pretrain", "--variant=x", "--debug"]
    for argv, lines in ((command[:-1], 1), (command, 3)):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
        assert done.returncode == 2 and done.stdout == ""
        *others, last = done.stderr.splitlines()
        assert last.startswith("error: --variant=x: no such variant")
        assert (len(others) >= 2 and "Traceback" in others[0]) if lines > 1 else not others


def test_images_that_are_mixed_come_in_pairs():
    with pytest.raises(UserError, match=r"--config.image_batch=127: must be even where images"):
        parse(*FIXED, "--config.image_batch=127", "--config.data.images.cutmix=1.0")


# --- what is left to the devices -----------------------------------------------------------------


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
        (["--config.steps_per_execution=10", "--config.dtype=mixed_bfloat16"], None, 10),
    ],
)
def test_what_is_left_to_the_devices(argv, dtype, steps):
    values, config = parse(*argv)
    before = config.to_dict()
    resolved = for_devices(config, values.tpu is not None)
    assert resolved.dtype == (dtype or "mixed_bfloat16")
    assert resolved.steps_per_execution == steps
    assert config.to_dict() == before


def test_paper_is_the_config_of_tpus():
    with pytest.raises(UserError, match="--tpu=v3-9: .*v3-8"):
        main(["--tpu=v3-9"])
    for argv in (["--tpu", "v3-8"], ["--tpu=x"], ["--tpu="]):
        assert config_of(*argv).image_batch == 4096
    assert config_of("--tpu_address=x").image_batch == 128

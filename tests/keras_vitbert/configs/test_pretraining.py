"""Configs of pre-training: by their names, checked, of a variant, and on devices."""

import pytest

from keras_vitbert.configs import paper, sample
from keras_vitbert.configs.devices import Devices
from keras_vitbert.configs.loading import CONFIGS, load_config
from keras_vitbert.configs.pretraining import VARIANTS
from tests.keras_vitbert.configs.command_lines import CONFIG_FILE, FIXED, parsed_config

AMPERE = (8, 0)
GRID_MASK = "--config.data.images.augmentations={'class_name': 'GridMask'}"
# What design and paper give: base model, ImageNet-1k, 4,096 images and 512 documents, 1M steps.
PAPER = {
    "model.num_layers": 12,
    "model.hidden_dim": 768,
    "model.image_size": 224,
    "model.patch_size": 16,
    "image_batch_size": 4096,
    "text_batch_size": 512,
    "steps": 1_000_000,
    "optimizer.weight_decay": 0.01,
    "optimizer.warmup_steps": 10_000,
    "merge.mask_ratio": 0.5,
    "merge.mask_ratio_per_update": 0.1,
    "merge.mask_update_interval": 10_000,
    "merge.image_loss_ratio": 0.2,
    "data.text.masking.ratio": 0.15,
}


def test_the_paper():
    assert {field: paper.get_config().value(field) for field in PAPER} == PAPER


def test_every_config_is_one_of_every_variant():
    for name in CONFIGS:
        for variant in VARIANTS:
            config = load_config(name).with_values({"variant": variant}).as_variant(variant)
            assert config.for_devices(Devices()).variant_spec is VARIANTS[variant]


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CONFIG_FILE)
    config = parsed_config(f"--config={path}", "--config.optimizer.warmup_steps=3")
    assert (config.steps, config.model.hidden_dim, config.optimizer.warmup_steps) == (77, 192, 3)
    assert parsed_config("--config", f"{path}:small").model.hidden_dim == 384


@pytest.mark.parametrize(
    ("culprit", "arguments"),
    [
        ("seed", "seed=4294967296"),
        ("model.hidden_dim", "model.num_heads=3"),
        ("model.image_std", "model.image_std=(1,0,1)"),
        ("model.prefix_tokens", "model.image_head=deit"),
        ("optimizer.beta_1", "optimizer.beta_1=0.9999"),
        ("optimizer.warmup_steps", "optimizer.warmup_steps=700"),
        ("teachers.text_steps", "teachers.text_steps=50"),
        ("validation_interval", "validation_interval=150"),
        ("steps_per_execution", "steps_per_execution=3"),
        ("image_batch_size", "image_batch_size=127 data.images.mixup=0.2"),
        ("probes.interval", "probes.interval=10 data.packing=True"),
        ("merge.mask_update_interval", "merge.mask_update_interval=140"),
        ("data.images.crop_area", "data.images.crop_area=(0.9,0.1)"),
    ],
)
def test_settings_beyond_the_edge_are_refused(culprit, arguments):
    with pytest.raises(ValueError, match=f"^{culprit}="):
        parsed_config(*FIXED, *(f"--config.{argument}" for argument in arguments.split()))


@pytest.mark.parametrize(
    ("ratio", "per_update", "updates"), [(0.5, 0.1, 5), (0.3, 0.1, 3), (0.5, 0.2, 3)]
)
def test_masks_that_would_not_be_finished_are_refused(ratio, per_update, updates):
    """The last update comes in the step after `updates` intervals, which must be one of the run."""
    largest = 60 // updates
    values = {
        "merge.mask_ratio": ratio,
        "merge.mask_ratio_per_update": per_update,
        "merge.mask_update_interval": largest,
        "steps": 61,
    }
    config = sample.get_config().with_values(values)
    later = {"merge.mask_update_interval": largest + 1}
    with pytest.raises(ValueError, match=f"^merge.mask_update_interval={largest + 1}.* {largest}"):
        config.with_values(later)
    config.with_values({**later, "variant": "joint"})
    config.with_values({**later, "merge.mask_ratio": 0.0})


def test_table_1():
    """Rows of the paper's Table 1: trained on, distillation ratio, merge."""
    config = sample.get_config()
    rows = {}
    for name, parts in VARIANTS.items():
        applied = config.as_variant(name)
        rows[name] = (parts.images, parts.text, applied.distillation.ratio, applied.merge.name)
        own = {"distillation.ratio": 1.0, "merge.name": "mask", "variant": "vitbert"}
        assert applied.with_values(own) == config  # nothing else differs
    assert rows == {
        "bert": (False, True, 0.0, "sum"),
        "vit": (True, False, 0.0, "sum"),
        "joint": (True, True, 0.0, "sum"),
        "vitbert": (True, True, 1.0, "mask"),
        "vitbert_no_kd": (True, True, 0.0, "mask"),
        "vitbert_no_gm": (True, True, 1.0, "sum"),
    }


@pytest.mark.parametrize(
    ("argv", "devices", "resolved"),
    [
        # The most steps up to 100, or 10, that divide steps, epochs and intervals.
        (["--config=paper"], Devices(on_tpu=True), ("mixed_bfloat16", "off", 100)),
        (["--config.steps_per_execution=5"], Devices(on_tpu=True), ("mixed_bfloat16", "off", 5)),
        (["--config.merge.mask_update_interval=70"], Devices(on_tpu=True), (None, "off", 10)),
        (["--config=paper"], Devices(gpus=(AMPERE,)), ("mixed_bfloat16", "on", 10)),
        (["--config=paper"], Devices(), ("float32", "off", 1)),
    ],
)
def test_what_is_left_to_the_devices(argv, devices, resolved):
    config = parsed_config(*argv).for_devices(devices)
    dtype, jit_compile, executed = resolved
    assert (config.jit_compile, config.steps_per_execution) == (jit_compile, executed)
    assert dtype is None or config.dtype == dtype


@pytest.mark.parametrize(
    ("argv", "devices", "culprit"),
    [
        (["--config.jit_compile=on", "--config.data.packing=True"], Devices(), "jit_compile"),
        (["--config.data.packing=True"], Devices(on_tpu=True), "data.packing"),
        ([GRID_MASK], Devices(on_tpu=True), "augmentations"),
        ([GRID_MASK], Devices(on_jax=True), "augmentations"),
        (["--config.sharding=fsdp"], Devices(), "sharding"),
        (["--config.image_batch_size=100"], Devices(replicas=3), "image_batch_size"),
        (["--config.text_batch_size=48", "--config.accumulation=5"], Devices(), "image_batch_size"),
    ],
)
def test_what_devices_cannot_do_is_refused(argv, devices, culprit):
    with pytest.raises(ValueError, match=f"^{culprit}"):
        parsed_config(*argv).for_devices(devices)


def test_fields_without_effect_are_refused_if_they_are_given():
    assert parsed_config("--config.optimizer.name=lion").optimizer.beta_2 == 0.99  # its own
    with pytest.raises(ValueError, match="^optimizer.epsilon: "):
        parsed_config("--config.optimizer.name=lion", "--config.optimizer.epsilon=1e-7")
    with pytest.raises(ValueError, match="^merge.name: "):
        parsed_config("--config.merge.name=mask", "--variant=joint")
    assert parsed_config("--variant=joint").merge.name == "mask"

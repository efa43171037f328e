"""From the command line to a config."""

from keras_vitbert.configs import paper
from keras_vitbert.experiments.flags import config_label
from tests.keras_vitbert.configs.command_lines import CONFIG_FILE, parse


def test_the_last_override_counts_and_the_order_of_flags_does_not():
    argv = ["--config.steps=800", "--variant", "bert", "--config.steps", "900", "--config=paper"]
    values, config = parse(*argv, "--config.optimizer.warmup_steps=0")
    assert (config.steps, config.model.num_layers, values.variant) == (900, 12, "bert")
    assert paper.get_config().steps == 1_000_000  # the defaults are not touched


def test_a_config_gives_a_folder_its_name(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CONFIG_FILE)
    for flag, label in (
        (f"--config={path}", "mine"),
        ("--config=paper:small", "paper-small"),
        ("--tpu=v3-8", "paper"),
    ):
        assert config_label(parse(flag)[0]) == label

"""What `pretrain` makes of a command line, for tests of configs."""

from keras_vitbert.experiments.flags import parse_pretraining
from keras_vitbert.pretrain import define_flags

# The sample's numbers are tuned now and then; these stay.
FIXED = (
    *("--config.steps=700", "--config.steps_per_epoch=100", "--config.validation_interval=700"),
    *("--config.optimizer.warmup_steps=50", "--config.model.num_heads=4"),
    *("--config.model.hidden_dim=128", "--config.model.patch_size=7"),
    *("--config.teachers.image_steps=500", "--config.teachers.text_steps=700"),
)

CONFIG_FILE = """
from keras_vitbert.configs import sample

def get_config(size="tiny"):
    values = {"steps": 77, "optimizer.warmup_steps": 5, "merge.mask_update_interval": 15}
    return sample.get_config(size).with_values(values)
"""


def parse(*argv):
    """(Flags, checked config)."""
    return parse_pretraining(list(argv), define_flags, "usage")


def parsed_config(*argv):
    """The checked config."""
    return parse(*argv)[1]

"""An experiment for two CPU cores: a model of 2.7 million weights that learns both modalities.

    python -m keras_vitbert.reproduce --scale=small --table=1 --cifar10=DIR --books=DIR

prepares its data, images of 32 pixels and texts of 128 tokens, and passes them by
`--config.data.*`; without these flags the config has no data. This is not `paper:small`, which is
the paper's experiment with a larger encoder.
"""

from typing import Any

from ml_collections import config_dict

from keras_vitbert.configs import paper


def get_config() -> config_dict.ConfigDict:
    """The config."""
    config: Any = paper.get_config("tiny")
    config.dtype = "mixed_bfloat16"
    config.model.update(
        num_layers=4,
        image_size=32,
        patch_size=8,
        num_classes=10,
        vocabulary_size=2_000,
        max_sequence_length=128,
        dropout=0.0,
        # With 1, masked words stay near their frequencies, and images need three times the steps.
        embedding_scale=50.0,
    )
    config.data.images.update(crop_area=(0.5, 1.0), central_crop=1.0)

    config.image_batch = 128
    config.text_batch = 32
    config.steps = 1_200
    config.steps_per_epoch = 100
    config.validation_interval = 600
    config.checkpoint_interval = 600
    config.checkpoints_to_keep = 1

    config.optimizer.update(learning_rate=1e-3, warmup_steps=100)
    config.merge.mask_update_interval = 100
    config.inspection.update(activation_interval=600, gradient_interval=0)
    return config

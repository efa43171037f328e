"""An experiment for two CPU cores: a model of 2.7 million weights that learns both modalities.

    python -m keras_vitbert.reproduce --scale=transfer --table=controls --cifar10=DIR --books=DIR

prepares its data, images of 32 pixels and texts of 32 tokens, and passes them by
`--config.data.*`; without these flags the config has no data. This is not `paper:small`, which is
the paper's experiment with a larger encoder.
"""

from keras_vitbert.configs import paper
from keras_vitbert.configs.pretraining import Pretraining


def get_config() -> Pretraining:
    """The config."""
    return paper.get_config("tiny").with_values(
        {
            "dtype": "mixed_bfloat16",
            "model.num_layers": 4,
            "model.image_size": 32,
            "model.patch_size": 8,
            "model.num_classes": 10,
            "model.vocabulary_size": 2_000,
            "model.max_sequence_length": 128,
            "model.dropout": 0.0,
            # With 1, masked words stay near their frequencies, and images need 3 times the steps.
            "model.embedding_scale": 50.0,
            "data.images.crop_area": (0.5, 1.0),
            "data.images.central_crop": 1.0,
            "image_batch_size": 128,
            "text_batch_size": 32,
            "steps": 1_200,
            "steps_per_epoch": 100,
            "validation_interval": 600,
            "checkpoint_interval": 600,
            "checkpoints_to_keep": 1,
            "optimizer.learning_rate": 1e-3,
            "optimizer.warmup_steps": 100,
            "merge.mask_update_interval": 12,  # complete after 5 % of the steps, as in the paper
            "inspection.activation_interval": 600,
            "inspection.gradient_interval": 0,
        }
    )

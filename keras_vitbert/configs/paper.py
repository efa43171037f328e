"""The paper's settings: base model, ImageNet-1k, Wikipedia and BooksCorpus, 1M steps.

    python -m keras_vitbert.pretrain --config=paper \\
        --config.data.images.train='imagenet/train-*' \\
        --config.data.images.validation='imagenet/validation-*' \\
        --config.data.text.train='text/train-*' --config.data.text.validation='text/validation-*' \\
        --config.data.vocabulary=vocab.txt --output_dir=runs/paper

`--config=paper:small` (or `tiny`, `large`) selects another encoder size. The values are the
defaults of `keras_vitbert.configs.pretraining`, where those that are not from the paper are marked:
"not in the paper", or "missing in our copy" where the paper states a value that was lost when its
PDF became text. `docs/pretraining.md` explains the fields.
"""

from keras_vitbert.configs.model import SIZES, Model
from keras_vitbert.configs.pretraining import Pretraining


def get_config(size: str = "base") -> Pretraining:
    """The config, with an encoder size of `keras_vitbert.configs.model.SIZES`."""
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r}; known are {', '.join(SIZES)}")
    return Pretraining(model=Model(**SIZES[size]))

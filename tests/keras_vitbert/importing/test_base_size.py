"""Models of base size, random, beside Hugging Face's transformers where those are installed.

pip install -e ".[test,parity]"
python -m pytest -m slow -s tests/keras_vitbert/importing/test_base_size.py
"""

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.importing.image_teachers import load_image_teacher
from keras_vitbert.importing.text_teachers import load_text_teacher
from keras_vitbert.trained.finding import find

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fixtures():
    """The module that makes the small models, which needs torch and transformers."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests.keras_vitbert.importing import make_fixtures

    return make_fixtures


def widened(model, seed):
    """Random weights as wide as a trained model's, with gains and biases of norms."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            center = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(center + (0.05 if parameter.ndim > 1 else 0.2) * noise)
    return model.eval()


def assert_close(name, logits, wanted):
    difference = np.abs(logits - wanted).max()
    scale = np.abs(wanted).max()
    print(f"{name}: largest difference {difference:.2e}, largest logit {scale:.2f}")
    assert difference < 1e-4 * max(scale, 1)


def test_bert_base(fixtures, tmp_path):
    import transformers

    model = widened(transformers.BertForPreTraining(transformers.BertConfig()), 0)
    model.save_pretrained(tmp_path)
    words = model.config.vocab_size
    tokens = [*fixtures.TOKENS, *(f"more{n}" for n in range(words - len(fixtures.TOKENS)))]
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens))
    random = np.random.default_rng(0)
    lengths, columns = np.array([128, 77]), np.arange(128)
    batch = {
        "token_ids": random.integers(0, words, (2, 128)),
        "segment_ids": (columns > np.array([[60], [30]])).astype(int),
        "padding_mask": (columns < lengths[:, None]).astype(int),
        "masked_positions": np.stack([random.choice(n, 20, replace=False) for n in lengths]),
    }
    teacher = load_text_teacher(find(str(tmp_path)))
    logits = teacher({name: tf.constant(value) for name, value in batch.items()})
    for name, wanted in fixtures.bert_logits(model, batch).items():
        assert_close(f"BERT base, {name}", logits[name].numpy(), wanted)


@pytest.mark.parametrize("kind", ["ViT", "DeiT"])
def test_vit_base(fixtures, tmp_path, kind):
    import transformers

    config = getattr(transformers, f"{kind}Config")(num_labels=1000)
    model = widened(getattr(transformers, f"{kind}ForImageClassification")(config), 1)
    model.save_pretrained(tmp_path)
    images = np.random.default_rng(2).random((2, 224, 224, 3), np.float32)
    imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    mean, std = imagenet if kind == "DeiT" else ((0.5,) * 3,) * 2
    teacher = load_image_teacher(find(str(tmp_path)))
    logits = teacher({"images": tf.constant(images)})["image_logits"].numpy()
    wanted = fixtures.vit_logits(model, images, mean, std)["image_logits"]
    assert_close(f"{kind} base", logits, wanted)

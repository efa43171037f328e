"""Random models of base and of odd size beside Hugging Face's transformers, if installed.

pip install -e ".[test,parity]"
python -m pytest -m slow -s tests/keras_vitbert/trained/test_base_size.py

Logits at base size, and gradients of all weights at an odd one.
"""

import copy
import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert import load
from tests.keras_vitbert.trained.stored_models import values_of

pytestmark = pytest.mark.slow

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = ((0.5,) * 3,) * 2
COMMON = {"hidden_size": 39, "num_hidden_layers": 3, "num_attention_heads": 3}
OF_TEXT = {"vocab_size": 101, "max_position_embeddings": 37}
OF_IMAGES = {**COMMON, "intermediate_size": 71, "image_size": 35, "patch_size": 7}
ODD = {
    "Bert": {**COMMON, "intermediate_size": 71, **OF_TEXT},
    "DistilBert": {"dim": 39, "n_layers": 3, "n_heads": 3, "hidden_dim": 71, **OF_TEXT},
    "ViT": OF_IMAGES,
    "DeiT": OF_IMAGES,
}
BASE = dict.fromkeys(ODD, {})
LENGTHS = {"odd": (37, 21), "base": (128, 77)}


@pytest.fixture(scope="module")
def fixtures():
    """The module that makes the small models, which needs torch and transformers."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests.keras_vitbert.trained import make_fixtures

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


@pytest.fixture
def made(fixtures, tmp_path):
    """`made(kind, task, size, **config) -> (model of transformers, ours, batch)`."""

    def made(kind, task, size="odd", **changes):
        import transformers

        sizes = {"odd": ODD, "base": BASE}[size][kind]
        config = getattr(transformers, f"{kind}Config")(**{**sizes, **changes})
        model = widened(getattr(transformers, f"{kind}For{task}")(config), 0)
        model.save_pretrained(tmp_path)
        if "Bert" in kind:
            words = model.config.vocab_size
            tokens = [*fixtures.TOKENS, *(f"more{n}" for n in range(words - len(fixtures.TOKENS)))]
            (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens))
            batch = texts(words, LENGTHS[size])
        else:
            pixels = model.config.image_size
            batch = {"images": np.random.default_rng(2).random((2, pixels, pixels, 3), np.float32)}
        return model, load(str(tmp_path)), batch

    yield made
    shutil.rmtree(tmp_path)  # of base size it is a gigabyte, which pytest would keep


def texts(words, lengths):
    """Two texts, of which one is padded.

    The padding token is not among their words: transformers leave out the gradient of its row.
    """
    random = np.random.default_rng(0)
    columns, ends = np.arange(lengths[0]), np.array(lengths)[:, None]
    mask = (columns < ends).astype(int)
    return {
        "token_ids": random.integers(5, words, mask.shape) * mask,
        "segment_ids": (columns > ends // 2) * mask,
        "padding_mask": mask,
        "masked_positions": np.stack([random.choice(n, 9, replace=False) for n in lengths]),
    }


def inputs_of(fixtures, model, batch):
    """What the model of transformers is called on."""
    if "token_ids" in batch:
        return fixtures.text_tensors(model, batch)
    mean, std = IMAGENET if model.config.model_type == "deit" else HALF
    return {"pixel_values": fixtures.pixels(batch["images"], mean, std)}


def assert_close(name, found, wanted, tolerance=1e-4):
    difference, scale = np.abs(found - wanted).max(), np.abs(wanted).max()
    print(f"{name}: largest difference {difference:.2e}, largest value {scale:.2f}")
    assert difference < tolerance * scale


# --- forwards ----------------------------------------------------------------------------------


def test_bert_base(fixtures, made):
    model, trained, batch = made("Bert", "PreTraining", "base")
    logits = trained.network({name: tf.constant(value) for name, value in batch.items()})
    for name, wanted in fixtures.bert_logits(model, batch).items():
        assert_close(f"BERT base, {name}", logits[name].numpy(), wanted)


@pytest.mark.parametrize("kind", ["ViT", "DeiT"])
def test_vit_base(fixtures, made, kind):
    model, trained, batch = made(kind, "ImageClassification", "base", num_labels=1000)
    logits = trained.network(batch)["image_logits"].numpy()
    mean, std = IMAGENET if kind == "DeiT" else HALF
    wanted = fixtures.vit_logits(model, batch["images"], mean, std)["image_logits"]
    assert_close(f"{kind} base", logits, wanted)


# --- training ----------------------------------------------------------------------------------

TASKS = {
    "Bert": "SequenceClassification",
    "DistilBert": "SequenceClassification",
    "ViT": "ImageClassification",
    "DeiT": "ImageClassification",
}
LABELS = np.array([2, 0])


def as_stored(model, values, folder):
    """Values of all parameters of a model, by the paths of our variables.

    Args:
        model: of transformers.
        values: callable that takes a parameter and returns a tensor.
        folder: path, where a model that has these values as its parameters is written.
    """
    import torch

    holder = copy.deepcopy(model)
    with torch.no_grad():
        for ours, theirs in zip(holder.parameters(), model.parameters(), strict=True):
            ours.copy_(values(theirs))
    holder.save_pretrained(folder)
    tokens = folder.parent / "vocab.txt"
    if tokens.exists():
        shutil.copy(tokens, folder)
    return values_of(load(str(folder)).network)


def loss_and_gradients(network, batch):
    with tf.GradientTape() as tape:
        logits = logits_of(network, batch)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(LABELS, logits)
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, [variable.value for variable in network.trainable_variables])
    return loss, [tf.convert_to_tensor(gradient) for gradient in gradients]  # embeddings' are not


def logits_of(network, batch):
    logits = network(batch, training=False)
    return logits["image_logits"] if isinstance(logits, dict) else logits


def their_loss_and_gradients(model, inputs):
    import torch

    loss = torch.nn.functional.cross_entropy(model(**inputs).logits, torch.tensor(LABELS))
    loss.backward()
    return loss.item()


def assert_all_close(found, wanted, tolerance, what):
    """Each tensor within the tolerance of its largest value.

    Biases of keys have no gradient but rounding, for a softmax is the same whatever is added to all
    its scores. They are compared with the largest gradient of all.
    """
    assert found.keys() == wanted.keys()
    largest = max(np.abs(value).max() for value in wanted.values())
    worst = 0
    for name, value in wanted.items():
        scale = largest if name.endswith("key/bias") else np.abs(value).max()
        assert scale > 0, name
        difference = np.abs(found[name] - value).max() / scale
        assert difference < tolerance, (name, difference)
        worst = max(worst, difference)
    print(f"{what}: {len(wanted)} tensors, largest relative difference {worst:.1e}")


@pytest.mark.parametrize("kind", TASKS)
def test_gradients(fixtures, made, tmp_path, kind):
    model, trained, batch = made(kind, TASKS[kind], num_labels=3)
    inputs = inputs_of(fixtures, model, batch)
    their_loss = their_loss_and_gradients(model, inputs)
    wanted = as_stored(model, lambda parameter: parameter.grad, tmp_path / "gradients")

    loss, gradients = loss_and_gradients(trained.network, batch)
    np.testing.assert_allclose(loss, their_loss, rtol=1e-5)
    by_path = {
        variable.path: gradient.numpy()
        for variable, gradient in zip(trained.network.trainable_variables, gradients, strict=True)
    }
    assert_all_close(by_path, wanted, 1e-4, f"{kind}, gradients")

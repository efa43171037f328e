"""Random models of base and of odd size beside Hugging Face's transformers, if installed.

pip install -e ".[test,parity]"
python -m pytest -m slow -s tests/keras_vitbert/trained/test_base_size.py

Logits, hidden states of every block, and gradients of all weights.
"""

import copy
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert import load
from tests.keras_vitbert.trained.stored_models import call

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
LENGTHS = {"odd": (37, 21), "base": (128, 77)}
LABELS = np.array([2, 0])


@pytest.fixture(scope="module")
def fixtures():
    """The module that makes the small models, which needs torch and transformers."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests.keras_vitbert.trained import make_fixtures

    return make_fixtures


@pytest.fixture
def made(fixtures, tmp_path):
    """`made(kind, task, size, **config) -> (model of transformers, ours, batch, its inputs)`."""

    def made(kind, task, size="odd", matrices=0.05, **changes):
        import transformers

        sizes = ODD[kind] if size == "odd" else {}
        config = getattr(transformers, f"{kind}Config")(**{**sizes, **changes})
        model = getattr(transformers, f"{kind}For{task}")(config)
        # By default as wide as a trained model's.
        fixtures.randomize(model, 0, matrices=matrices, others=0.2)
        model.save_pretrained(tmp_path)
        if "Bert" in kind:
            words = model.config.vocab_size
            tokens = [*fixtures.TOKENS, *(f"more{n}" for n in range(words - len(fixtures.TOKENS)))]
            (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens))
            batch = texts(words, LENGTHS[size])
            inputs = fixtures.text_tensors(model, batch)
        else:
            pixels = model.config.image_size
            batch = {"images": np.random.default_rng(2).random((2, pixels, pixels, 3), np.float32)}
            mean_and_std = IMAGENET if kind == "DeiT" else HALF
            inputs = {"pixel_values": fixtures.pixels(batch["images"], *mean_and_std)}
        return model, load(str(tmp_path)), batch, inputs

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


def assert_close(name, found, wanted, tolerance):
    difference, scale = np.abs(found - wanted).max(), np.abs(wanted).max()
    print(f"{name}: largest difference {difference:.2e}, largest value {scale:.2f}")
    assert difference < tolerance * scale


@pytest.mark.parametrize("kind", ["Bert", "ViT"])
@pytest.mark.parametrize(
    ("size", "activation", "epsilon", "tolerance"),
    [("odd", "gelu_new", 1e-3, 1e-5), ("base", "gelu", 1e-12, 1e-4)],
)
def test_logits_and_hidden_states(fixtures, made, kind, size, activation, epsilon, tolerance):
    import torch

    task, stream = ("PreTraining", "text") if kind == "Bert" else ("ImageClassification", "image")
    changes = {"hidden_act": activation, "layer_norm_eps": epsilon}
    model, trained, batch, inputs = made(kind, task, size, **changes)
    with torch.no_grad():
        wanted_states = model(**inputs, output_hidden_states=True).hidden_states
    backbone = trained.backbone
    blocks = [f"{stream}_{block.name}" for block in backbone.blocks]
    outputs = [backbone.block_outputs[name] for name in (f"{stream}_embedding", *blocks)]
    states = keras.Model(backbone.inputs, outputs)({x.name: batch[x.name] for x in backbone.inputs})
    assert len(states) == len(wanted_states) == model.config.num_hidden_layers + 1
    # What theirs puts last depends on the version.
    for index, pair in enumerate(zip(states[:-1], wanted_states[:-1], strict=True)):
        pair = map(np.asarray, pair)
        if stream == "text":  # nothing is promised of padding
            pair = (x * batch["padding_mask"][:, :, None] for x in pair)
        assert_close(f"{kind} {size}, after {index} blocks", *pair, tolerance)
    if stream == "text":
        wanted = fixtures.bert_logits(model, batch)
    else:
        wanted = fixtures.vit_logits(model, batch["images"], *HALF)
    for name, logits in call(trained.network, batch).items():
        assert_close(f"{kind} {size}, {name}", logits.numpy(), wanted[name], tolerance)


@pytest.mark.parametrize(
    ("kind", "size"), [*((kind, "odd") for kind in ODD), ("Bert", "base"), ("ViT", "base")]
)
def test_gradients(made, tmp_path, kind, size):
    """Each within a tolerance of its largest value.

    Biases of keys have no gradient but rounding, for a softmax is the same whatever is added to all
    its scores. They are compared with the largest gradient of all.
    """
    import torch

    task = "SequenceClassification" if "Bert" in kind else "ImageClassification"
    # Wider ones make all tokens alike in twelve random blocks: nothing but rounding is left of the
    # gradients of queries and keys.
    matrices = 0.02 if size == "base" else 0.05
    model, trained, batch, inputs = made(kind, task, size, matrices, num_labels=3)
    loss = torch.nn.functional.cross_entropy(model(**inputs).logits, torch.tensor(LABELS))
    loss.backward()
    # The gradients, as weights of such a model, come by the paths of our variables.
    holder = copy.deepcopy(model)
    with torch.no_grad():
        for ours, theirs in zip(holder.parameters(), model.parameters(), strict=True):
            ours.copy_(theirs.grad)
    folder = tmp_path / "gradients"
    holder.save_pretrained(folder)
    if "Bert" in kind:
        shutil.copy(tmp_path / "vocab.txt", folder)
    wanted = {v.path: v.numpy() for v in load(str(folder)).network.weights}

    network = trained.network
    with tf.GradientTape() as tape:
        [logits] = call(network, batch).values()
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(LABELS, logits)
        our_loss = tf.reduce_mean(losses)
    np.testing.assert_allclose(our_loss, loss.item(), rtol=1e-5)
    gradients = tape.gradient(our_loss, {v.path: v.value for v in network.trainable_variables})
    assert gradients.keys() == wanted.keys()
    largest = max(np.abs(value).max() for value in wanted.values())
    for name, value in wanted.items():
        scale = largest if name.endswith("key/bias") else np.abs(value).max()
        assert scale > 0, name
        found = tf.convert_to_tensor(gradients[name])  # those of embeddings are not
        assert np.abs(found - value).max() < 1e-4 * scale, name

"""The models that come with the project are what their cards say.

`held_out` has what none has seen: CIFAR-10's training images from 4,500 on of each class, of which
`vitbert_small` saw the first 2,400, and four chapters of novels, of which it saw others.
"""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

import keras_vitbert
from keras_vitbert.trained.finding import find, own_models
from pipelines import text_examples
from pipelines.digests import check_sums
from pipelines.shards.records import RecordFiles
from pipelines.text.wordpiece import write_vocabulary
from pipelines.text_stream import TextStream
from tests.keras_vitbert.training.reference import task_values

NAMES = ["vitbert_small"]
HELD_OUT = pathlib.Path(__file__).parent / "held_out"
MOST_BYTES = 6e6


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    return keras_vitbert.load(name)


@pytest.fixture(scope="module")
def card(name):
    """The rows of the card's tables: dict of the first column to the others."""
    text = pathlib.Path(find(name).path, "README.md").read_text()
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", text, re.MULTILINE)
    return {first: others.split(" | ") for first, others in rows}


def test_all_of_them_are_tested():
    assert own_models() == NAMES


def test_it_is_whole_and_small(name):
    folder = pathlib.Path(find(name).path)
    check_sums(str(folder))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    listed = (folder / "sha256sums.txt").read_text()
    unlisted = {path.name for path in files if str(path.relative_to(folder)) not in listed}
    assert unlisted == {"README.md", "sha256sums.txt"}


def test_its_weights_are_those_of_the_card(model, card):
    [parameters] = card["parameters of the backbone"]
    assert model.backbone.count_params() == int(parameters.replace(",", ""))
    for weight in model.network.trainable_variables:
        values = weight.value.numpy()
        rounded = tf.cast(tf.cast(values, tf.bfloat16), tf.float32).numpy()
        np.testing.assert_array_equal(values, rounded, err_msg=weight.path)
        assert np.ptp(values) > 0 and np.isfinite(values).all()
    assert len(model.classes) == 10 and len(model.vocabulary) == 2000
    measured = model.summary["validation"]
    for row, key in (
        ("image classification accuracy", "image_accuracy"),
        ("masked-LM loss (nats)", "mlm_loss"),
        ("next-sentence accuracy", "nsp_accuracy"),
    ):
        assert float(card[row][0]) == pytest.approx(measured[key], abs=5e-5)


def test_it_knows_images_as_well_as_the_card_says(model, card):
    paths = sorted(HELD_OUT.glob("images/*/*.jpg"))
    images = np.stack([tf.io.decode_jpeg(path.read_bytes()).numpy() for path in paths])
    answers = model.network({"images": images})["image_logits"].numpy().argmax(-1)
    right = [model.classes[k] == path.parent.name for k, path in zip(answers, paths, strict=True)]
    said = float(card["image classification accuracy"][0])
    error = np.sqrt(said * (1 - said) / len(right))  # the standard one of as many examples
    assert len(right) == 200 and abs(np.mean(right) - said) < 3 * error


@pytest.fixture(scope="module")
def texts(model, tmp_path_factory):
    """All examples of the held-out chapters as one batch of arrays."""
    folder = tmp_path_factory.mktemp("texts")
    write_vocabulary(str(folder / "vocab.txt"), model.vocabulary)
    length = model.backbone.max_sequence_length
    text_examples.main(
        [
            f"--documents={HELD_OUT / 'chapters.jsonl'}",
            f"--vocabulary={folder / 'vocab.txt'}",
            f"--output={folder / 'text'}",
            *("--shards=1", "--duplication=4", f"--max_length={length}"),
        ]
    )
    records = RecordFiles.find(f"{folder}/text-*")
    stream = TextStream.open(records, model.vocabulary, len(model.vocabulary), length)
    [batch] = stream.validation().batch(records.count).as_numpy_iterator()
    return batch


@pytest.mark.slow
def test_it_knows_texts_about_as_well_as_the_card_says(model, card, texts):
    """The card's are of novels and of an encyclopedia."""
    names = ("token_ids", "segment_ids", "padding_mask", "masked_positions")
    logits = model.network({name: texts[name] for name in names})
    assert len(texts["token_ids"]) == 321
    measured = {
        **task_values("mlm", texts["masked_ids"], texts["masked_weights"], logits["mlm_logits"]),
        **task_values("nsp", texts["next_sentence_labels"], np.ones(321), logits["nsp_logits"]),
    }
    said, baseline = map(float, card["masked-LM loss (nats)"])
    assert abs(measured["mlm_loss"] - said) < 0.3 and measured["mlm_loss"] < baseline - 0.3
    [among_novels] = card["next-sentence accuracy among novels"]
    assert measured["nsp_accuracy"] == pytest.approx(float(among_novels), abs=0.01)

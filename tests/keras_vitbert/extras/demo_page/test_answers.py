import numpy as np
import pytest

from keras_vitbert.extras.demo_page.answers import ShownModel
from keras_vitbert.inspection.activations import look_inside
from tests.keras_vitbert.trained.served_models import CLASSES, VOCABULARY
from tests.pipelines.image_fixtures import encoded, picture

SIZE = 6


@pytest.fixture(scope="module")
def shown(trained):
    return ShownModel(trained)


@pytest.fixture(scope="module")
def shown_classifier(classifier):
    return ShownModel(classifier)


def softmax(logits):
    powers = np.exp(np.asarray(logits, np.float64))
    return powers / powers.sum()


def sorted_pairs(names, probabilities):
    return sorted(zip(names, probabilities, strict=True), key=lambda pair: -pair[1])[:5]


def assert_answers(found, expected):
    assert list(found) == [name for name, _ in expected]
    np.testing.assert_allclose(list(found.values()), [p for _, p in expected], rtol=1e-4)


def inputs_of(tokens, second_from=None):
    ids = [VOCABULARY.index(token) for token in tokens]
    places = np.arange(len(ids))
    return {
        "token_ids": np.array([ids]),
        "segment_ids": (places >= (second_from or len(ids)))[None] * 1,
        "padding_mask": np.ones((1, len(ids)), int),
    }


def test_an_image(shown, trained, tmp_path):
    image = picture(3, (SIZE, SIZE))
    (tmp_path / "x.png").write_bytes(encoded(image, "PNG"))
    found = shown.image(str(tmp_path / "x.png"))
    assert np.array_equal(found.picture, np.asarray(image))
    inputs = {"images": np.asarray(image)[None] / np.float32(255)}
    sequence = trained.backbone(inputs)["image_sequence"]
    expected = softmax(trained.heads["image"](sequence[:, 0])[0])
    assert_answers(found.answers["answers"], sorted_pairs(CLASSES, expected))
    attention, activation = map(np.asarray, look_inside(trained.backbone, inputs))
    [by_class_token] = found.attention.values()
    np.testing.assert_allclose(by_class_token, attention[0, :, :, 0], atol=1e-6)
    np.testing.assert_allclose(found.activation, activation[0], rtol=1e-5)


def test_masks_are_filled(shown, trained):
    found = shown.text("The [MASK] sat [MASK]")
    tokens = ["[CLS]", "the", "[MASK]", "sat", "[MASK]", "[SEP]"]
    assert found.tokens == tokens and list(found.attention) == list(found.answers) == [
        "mask 1",
        "mask 2",
    ]
    inputs = inputs_of(tokens)
    logits = trained.heads["mlm"](trained.backbone(inputs)["text_sequence"], np.array([[2, 4]]))
    for number, name in enumerate(found.answers):
        expected = softmax(logits[0, number])[: len(VOCABULARY)]
        assert_answers(found.answers[name], sorted_pairs(VOCABULARY, expected))
    attention = np.asarray(look_inside(trained.backbone, inputs)[0])[0]
    for place, values in zip([2, 4], found.attention.values(), strict=True):
        np.testing.assert_allclose(values, attention[:, :, place], atol=1e-6)
    assert not found.notes


@pytest.mark.slow
def test_a_pair_is_classified(shown_classifier, classifier):
    found = shown_classifier.text("the cat", "sat")
    assert found.tokens == ["[CLS]", "the", "cat", "[SEP]", "sat", "[SEP]"]
    inputs = inputs_of(found.tokens, second_from=4)
    sequence = classifier.backbone(inputs)["text_sequence"]
    expected = softmax(classifier.heads["text"](sequence[:, 0])[0])
    assert_answers(found.answers["answers"], sorted_pairs(["no", "yes"], expected))
    attention = np.asarray(look_inside(classifier.backbone, inputs)[0])[0]
    np.testing.assert_allclose(found.attention["[CLS]"], attention[:, :, 0], atol=1e-6)
    assert not found.notes


@pytest.mark.slow
def test_what_is_not_as_the_reader_may_think_is_said(shown_classifier):
    found = shown_classifier.text("the [MASK] cat sat")
    assert found.tokens[:3] == ["[CLS]", "the", "["] and len(found.tokens) == 7
    plain, cut = found.notes
    assert "[MASK]" in plain and "8 tokens" in cut and "7" in cut
    assert len(shown_classifier.text("the cat sat the cat").notes) == 0  # just fits
    # A pair has a separator more.
    assert len(shown_classifier.text("the cat sat", "the cat").notes) == 1


def test_a_model_without_heads_shows_its_blocks(make_trained, tmp_path):
    model = ShownModel(make_trained())
    (tmp_path / "x.png").write_bytes(encoded(picture(3), "PNG"))
    for found in (model.image(str(tmp_path / "x.png")), model.text("the [MASK]")):
        [attention] = found.attention.values()
        assert not found.answers and attention.shape[:2] == (1, 2)
    assert [line.split(":")[0] for line in model.lacks()] == [
        "It has no head for images",
        "It has no head for texts",
    ]


def test_what_a_model_lacks(shown, shown_classifier, embedder):
    assert shown.lacks() == [] and (shown.takes_images, shown.takes_texts) == (True, True)
    assert shown_classifier.lacks() == ["It takes no images."]
    assert ShownModel(embedder).lacks()[1] == "It takes no texts."


def test_bad_input_is_one_line(shown, tmp_path):
    (tmp_path / "cut.jpg").write_bytes(encoded(picture(0), quality=95)[:300])
    (tmp_path / "text.png").write_text("no image")
    for name in ("cut.jpg", "text.png"):
        with pytest.raises(ValueError, match="^the image"):
            shown.image(str(tmp_path / name))
    with pytest.raises(ValueError, match=r"^the text: .*\[MASK\]"):
        shown.text("the cat sat the cat [MASK]")

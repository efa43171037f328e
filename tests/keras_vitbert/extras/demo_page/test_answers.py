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


def assert_answers(found, names, logits):
    """The five likeliest by a softmax over all logits."""
    powers = np.exp(np.asarray(logits, np.float64))
    pairs = zip(names, powers / powers.sum(), strict=False)
    expected = sorted(pairs, key=lambda pair: -pair[1])[:5]
    assert list(found) == [name for name, _ in expected]
    np.testing.assert_allclose(list(found.values()), [p for _, p in expected], rtol=1e-4)


def inputs_of(tokens, second_from=99):
    ids = [VOCABULARY.index(token) for token in tokens]
    return {
        "token_ids": np.array([ids]),
        "segment_ids": (np.arange(len(ids)) >= second_from)[None] * 1,
        "padding_mask": np.ones((1, len(ids)), int),
    }


def test_an_image(shown, trained, tmp_path):
    image = picture(3, (SIZE, SIZE))
    (tmp_path / "x.png").write_bytes(encoded(image, "PNG"))
    found = shown.image(str(tmp_path / "x.png"))
    assert np.array_equal(found.picture, np.asarray(image))
    inputs = {"images": np.asarray(image)[None] / np.float32(255)}
    sequence = trained.backbone(inputs)["image_sequence"]
    assert_answers(found.answers["answers"], CLASSES, trained.heads["image"](sequence[:, 0])[0])
    attention, activation = map(np.asarray, look_inside(trained.backbone, inputs))
    [by_class_token] = found.attention.values()
    np.testing.assert_allclose(by_class_token, attention[0, :, :, 0], atol=1e-6)
    np.testing.assert_allclose(found.activation, activation[0], rtol=1e-5)


def test_masks_are_filled(shown, trained):
    found = shown.text("The [MASK] sat [MASK]")
    tokens = ["[CLS]", "the", "[MASK]", "sat", "[MASK]", "[SEP]"]
    assert found.tokens == tokens and not found.notes
    assert list(found.attention) == list(found.answers) == ["mask 1", "mask 2"]
    inputs = inputs_of(tokens)
    logits = trained.heads["mlm"](trained.backbone(inputs)["text_sequence"], np.array([[2, 4]]))
    for number, answers in enumerate(found.answers.values()):
        assert_answers(answers, VOCABULARY, logits[0, number])
    attention = np.asarray(look_inside(trained.backbone, inputs)[0])[0]
    for place, values in zip([2, 4], found.attention.values(), strict=True):
        np.testing.assert_allclose(values, attention[:, :, place], atol=1e-6)
    with pytest.raises(ValueError, match=r"^the text: .*\[MASK\]"):
        shown.text("the cat sat the cat [MASK]")


@pytest.mark.slow
def test_a_pair_is_classified_and_what_the_reader_may_not_think_is_said(classifier):
    shown = ShownModel(classifier)
    found = shown.text("the cat", "sat")
    assert found.tokens == ["[CLS]", "the", "cat", "[SEP]", "sat", "[SEP]"] and not found.notes
    inputs = inputs_of(found.tokens, second_from=4)
    sequence = classifier.backbone(inputs)["text_sequence"]
    logits = classifier.heads["text"](sequence[:, 0])[0]
    assert_answers(found.answers["answers"], ["no", "yes"], logits)
    attention = np.asarray(look_inside(classifier.backbone, inputs)[0])[0]
    np.testing.assert_allclose(found.attention["[CLS]"], attention[:, :, 0], atol=1e-6)

    found = shown.text("the [MASK] cat sat")
    assert found.tokens[:3] == ["[CLS]", "the", "["] and len(found.tokens) == 7
    plain, cut = found.notes
    assert "[MASK]" in plain and "8 tokens" in cut and "7" in cut
    assert len(shown.text("the cat sat the cat").notes) == 0  # just fits
    # A pair has a separator more.
    assert len(shown.text("the cat sat", "the cat").notes) == 1


def test_what_a_model_lacks(make_trained, classifier, tmp_path):
    assert ShownModel(classifier).lacks() == ["It takes no images."]
    model = ShownModel(make_trained())
    headless, no_texts = "It has no head for images", "It has no head for texts"
    assert [line.split(":")[0] for line in model.lacks()] == [headless, no_texts]
    found = model.text("the [MASK]")  # its blocks are shown
    assert not found.answers and list(found.attention) == ["[CLS]"]
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match="^the image"):
        model.image(str(tmp_path / "text.png"))

"""The model card of a preset."""

import dataclasses
import pathlib

import keras_vitbert
from keras_vitbert.trained.sharing import model_card
from keras_vitbert.trained.trained_model import origin_of

SAVED = pathlib.Path(__file__).parent / "saved"


def test_the_card_of_a_fine_tuned_model_has_the_spread_of_its_seeds():
    trained = keras_vitbert.load(str(SAVED / "fine_tuned_texts"))
    named = dataclasses.replace(trained, classes=["a|b", "<i>"], name="<u>\n#")
    card = model_card(named, "text_classifier", origin_of(trained))
    spread = trained.summary["splits"]["validation"]["accuracy"]
    assert " | ".join(f"{spread[n]:.4f}" for n in ("median", "minimum", "maximum")) in card
    assert r"| classes | 2: a\|b, &lt;i&gt; |" in card
    assert "\n# &lt;u&gt; #: ViT-BERT, text classification\n" in card
    assert str(SAVED) not in card


def test_the_cards_of_a_preset_and_of_an_export_say_that_a_linear_model_is_ahead():
    trained = keras_vitbert.load(str(SAVED / "fine_tuned_texts"))
    linear = {"accuracy": 0.98765, "note": "a linear model is ahead by 0.5"}
    summary = {**trained.summary, "linear": linear}
    trained = dataclasses.replace(trained, summary=summary)
    for kind in ("text_classifier", "portable"):
        card = model_card(trained, kind, origin_of(trained))
        assert "| 0.9877 |" in card and linear["note"] in card

"""The model card of a preset."""

from keras_vitbert.trained.sharing import model_card
from keras_vitbert.trained.trained_model import TrainedModel


def test_the_card_of_a_fine_tuned_model_has_the_spread_of_its_seeds(full_model):
    accuracy = {"median": 0.75, "minimum": 0.7, "maximum": 0.8}
    summary = {
        "metric": "accuracy",
        "learning_rate": 0.03,
        "steps": 7,
        "seeds": [0, 1, 2],
        "model": "trials/seed-rate-0.03-seed-2",
        "splits": {"test": {"examples": 40, "majority_accuracy": 0.1, "accuracy": accuracy}},
    }
    record = {
        "checkpoint": "/home/somebody/runs/vitbert",
        "records": {"train": 100},
        "experiment": {
            "task": "cifar10",
            "kind": "images",
            "seed": 0,
            "steps": 0,
            "optimizer": {"learning_rate": 0.01, "ema": 0.0},
        },
    }
    changed = {"record": record, "summary": summary, "classes": ["a|b", "<i>"], "name": "<u>\n#"}
    made_of = {
        "inputs": {"<b>|": "ab" * 32},
        "accepted_changes": ["texts", "seed"],
        "versions": {"keras": "3.15.1", "python": "3.11"},
    }
    origin = {"weights_sha256": "cd" * 32, "made_of": made_of}
    card = model_card(TrainedModel(**{**vars(full_model), **changed}), "image_classifier", origin)
    assert r"| &lt;b&gt;\| | sha256 `abababababab` |" in card
    assert "| weights of the backbone | sha256 `cdcdcdcdcdcd` |" in card
    assert "| accepted changes | texts, seed |" in card
    assert "| versions | keras 3.15.1, python 3.11 |" in card
    assert r"| classes | 2: a\|b, &lt;i&gt; |" in card
    assert "\n# &lt;u&gt; #: ViT-BERT, image classification\n" in card
    assert "| test, 40 examples | 0.7500 | 0.7000 | 0.8000 | 0.1000 |" in card
    assert "| `optimizer.learning_rate` | 0.03 |" in card and "| `seed` | 2 |" in card
    assert "`vitbert`" in card and "somebody" not in card and "ema" not in card

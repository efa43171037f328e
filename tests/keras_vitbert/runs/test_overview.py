"""What a run says that it will do."""

import types

import numpy as np

from keras_vitbert import finetune
from keras_vitbert.configs import fine_tuning
from keras_vitbert.experiments.fine_tuning import recommended
from keras_vitbert.experiments.flags import parse_fine_tuning
from keras_vitbert.runs import overview

MODEL = {"num_layers": 2, "image_size": 28, "patch_size": 7, "hidden_dim": 128}


def test_chosen_values_can_be_given_as_flags(image_task, monkeypatch):
    pictures = recommended.Pictures(np.array([[20, 20]]), np.array([3]))
    monkeypatch.setattr(recommended, "look_at", lambda store: pictures)
    choice = recommended.Chosen(fine_tuning.get_config("images", "images"), MODEL)
    train = types.SimpleNamespace(count=1_000, class_counts=lambda n: np.array([400, 600]))
    run = types.SimpleNamespace(
        config=choice.choose_for_images(train),
        chosen=choice.fields,
        data=types.SimpleNamespace(train=train, tests={}, classes=["a", "b"], picked_on=""),
        pretrained=types.SimpleNamespace(
            fine_tuned_model=lambda config: MODEL, name="it", architecture="", step=7
        ),
        sweep=False,
        seeds=1,
    )
    rows = dict(overview._fine_tuning_rows(run))
    argv = ["--checkpoint=rand", f"--data_dir={image_task}", "--task=images"]
    argv += [f"--config.{field}" for field in rows["chosen"].split()]
    _, parsed, given = parse_fine_tuning(argv, finetune.define_flags, "")
    assert set(given) == set(choice.fields) >= {"image_size", "images.crop_area", "steps"}
    assert all(parsed.value(field) == run.config.value(field) for field in given)

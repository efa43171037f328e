"""What `finetune` says that it will do."""

import re
import types

import numpy as np
import pytest

from keras_vitbert import finetune
from keras_vitbert.configs import fine_tuning
from keras_vitbert.experiments.fine_tuning import recommended
from keras_vitbert.experiments.fine_tuning.search import FineTuningRun
from keras_vitbert.experiments.flags import parse_fine_tuning
from keras_vitbert.runs import overview

MODEL = {"image_size": 28, "patch_size": 7, "hidden_dim": 128}


@pytest.mark.parametrize("side", [20, 500])
def test_what_was_chosen_can_be_given_as_flags(image_task, side, monkeypatch):
    config = fine_tuning.get_config("images", "images")
    pictures = recommended.Pictures(np.array([[side, side]]), np.array([3]))
    monkeypatch.setattr(recommended, "look_at", lambda store: pictures)
    choice = recommended.Chosen(config, MODEL)
    config = choice.choose_for_images(types.SimpleNamespace(count=1_000))
    run = types.SimpleNamespace(config=config, chosen=choice.fields, pictures=pictures)
    said = " ".join(text for _, text in overview._images(run))
    found = re.findall(r"\((\S+=[^\s)]*)\)", said)
    assert len(found) == 2
    argv = ["--checkpoint=rand", f"--data_dir={image_task}", "--task=images"]
    argv += [f"--config.{field}" for field in found]
    _, parsed, given = parse_fine_tuning(argv, finetune.define_flags, "")
    assert given == {"image_size", "images.crop_area"}
    assert all(parsed.value(field) == config.value(field) for field in given)


def test_where_a_learning_rate_comes_from():
    field, run = (
        "optimizer.learning_rate",
        dict.fromkeys(("config", "folder", "machine", "data", "inputs", "pretrained")),
    )
    said = [
        FineTuningRun(**run, given=given, chosen=chosen).rate_from
        for given, chosen in (([field], []), ([], [field]), ([], []))
    ]
    assert said == ["given", "chosen for these data", "the task's own"]

"""What `finetune` says that it will do."""

import re
import shlex

import numpy as np
import pytest

from keras_vitbert import finetune
from keras_vitbert.configs import fine_tuning
from keras_vitbert.fine_tuning import overview, recommended, settings
from keras_vitbert.fine_tuning.search import FineTuningRun

MODEL = {"image_size": 28, "patch_size": 7, "hidden_dim": 128}


@pytest.mark.parametrize("side", [20, 500])
def test_what_was_chosen_can_be_pasted(image_task, side):
    config = fine_tuning.get_config("images", "images")
    pictures = recommended.Pictures(np.array([[side, side]]), np.array([3]))
    choice = recommended.Chosen(config, MODEL)
    config = choice.for_images(1_000, pictures)
    said = " ".join(text for _, text in overview._images(config, choice.fields, pictures))
    said = re.sub(r"\(off: \S+\)", "", said)  # which changes what is done
    found = re.findall(r"\(('[^']*'|--\S+)\)", said)
    flags = shlex.split(" ".join(found))
    assert len(flags) == len(found) == 2
    argv = ["--checkpoint=rand", f"--data_dir={image_task}", "--task=images", *flags]
    _, parsed, given = settings.parse(argv, finetune.define_flags, "")
    assert given == {"image_size", "images.crop_area"}
    assert all(parsed.value(field) == config.value(field) for field in given)


def test_where_a_learning_rate_comes_from():
    field, run = (
        "optimizer.learning_rate",
        dict.fromkeys(("config", "folder", "machine", "data", "task", "pretrained")),
    )
    said = [
        FineTuningRun(**run, given=given, chosen=chosen).rate_from
        for given, chosen in (([field], []), ([], [field]), ([], []))
    ]
    assert said == ["given", "chosen for these data", "the task's own"]

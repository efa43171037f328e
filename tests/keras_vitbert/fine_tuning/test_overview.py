"""What `finetune` says that it will do."""

import re
import shlex

import numpy as np
import pytest

from keras_vitbert import finetune
from keras_vitbert.configs import fine_tuning
from keras_vitbert.configs.overrides import Given, flatten
from keras_vitbert.fine_tuning import overview, recommended, settings

MODEL = {"image_size": 28, "patch_size": 7, "hidden_dim": 128}


@pytest.mark.parametrize("side", [20, 500])
def test_what_was_chosen_can_be_pasted(image_task, side):
    config = fine_tuning.get_config("images", "images")
    pictures = recommended.Pictures(np.array([[side, side]]), np.array([3]))
    chosen = recommended.choose(config, MODEL, 1_000, pictures)
    said = " ".join(text for _, text in overview._images(config, chosen, pictures))
    said = re.sub(r"\(off: \S+\)", "", said)  # which changes what is done
    found = re.findall(r"\(('[^']*'|--\S+)\)", said)
    flags = shlex.split(" ".join(found))
    assert len(flags) == len(found) == 2
    argv = [f"--data_dir={image_task}", "--task=images", *flags]
    _, _, parsed, given = settings.parse(argv, finetune.define_flags, "")
    assert given.keys == {"image_size", "images.crop_area"}
    assert {key: flatten(parsed)[key] for key in given.keys} == {
        key: flatten(config)[key] for key in given.keys
    }


def test_where_a_learning_rate_comes_from():
    key = "optimizer.learning_rate"
    said = [
        finetune._rate_from(Given(frozenset(keys)), chosen)
        for keys, chosen in (([key], []), ([], [key]), ([], []))
    ]
    assert said == ["given", "chosen for these data", "the task's own"]

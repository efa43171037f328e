"""A run is exported and answers in a process that has TensorFlow and its text operations only.

SERVING_PYTHON may name the Python of an environment where nothing else is installed; by default it
is this one, where the project's packages are made impossible to import.
"""

import io
import json
import os
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_vitbert import export, predict
from keras_vitbert.trained.loading import load
from pipelines import command_line
from tests.keras_vitbert.tiny_runs import CLASS_NAMES, VOCABULARY, content_of
from tests.pipelines.image_fixtures import encoded, picture

SCRIPT = pathlib.Path(__file__).with_name("served_script.py")
MASK, LENGTH = VOCABULARY.index("[MASK]"), 16
TEXTS = ["word1 [MASK] word3", "[MASK] word2 word4 [MASK]"]
IMAGES = [encoded(picture(seed, (8, 8)), "PNG") for seed in range(3)]
POSITIONS = np.array([[2, 0], [1, 4]])
SIGNATURES = {"classify_image": IMAGES, "fill_mask": TEXTS, "embed_text": ["word1 word2"]}


def ask(model, folder):
    """The answers of `served_script.py` in a process of its own: dict of name to array."""
    requests, answers = folder / "requests.npz", folder / "answers.npz"
    np.savez(requests, **{name: np.array(v, object) for name, v in SIGNATURES.items()})
    # Isolated: neither the working folder nor PYTHONPATH is looked at.
    python = os.environ.get("SERVING_PYTHON", sys.executable)
    command = [python, "-I", str(SCRIPT), str(model), str(requests), str(answers)]
    subprocess.run(command, cwd=folder, check=True, timeout=300)
    return dict(np.load(answers, allow_pickle=True))


def keras_answers(folder):
    """What the Keras model of a run says, by no code of `serving`."""
    trained = load(str(folder))
    network, record = trained.network, trained.record
    assert record["experiment"]["data"]["images"]["central_crop"] == 1.0
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in IMAGES])
    ids = np.zeros((2, 6), int)
    for row, text in zip(ids, TEXTS, strict=True):
        tokens = ["[CLS]", *text.split(), "[SEP]"]
        row[: len(tokens)] = [VOCABULARY.index(token) for token in tokens]
    inputs = {"token_ids": ids, "segment_ids": ids * 0, "padding_mask": (ids > 0) * 1}
    outputs = network({"images": pixels / 255, **inputs, "masked_positions": POSITIONS})
    return {
        name: keras.ops.convert_to_numpy(keras.ops.softmax(outputs[f"{name}_logits"]))
        for name in ("image", "mlm")
    }


@pytest.mark.slow
def test_a_run_is_served_without_this_project(finished, tmp_path, capsys):
    run = tmp_path / "joint"  # with whole images: that concerns what comes after training
    shutil.copytree(finished("joint"), run)
    config = content_of(run / "config.json")
    config["experiment"]["data"]["images"]["central_crop"] = 1.0
    (run / "config.json").write_text(json.dumps(config))
    flags = [f"--checkpoint={run}", f"--output_dir={tmp_path / 'out'}", "--top_k=3"]
    assert command_line.run(export.main, flags) == 0
    found = ask(tmp_path / "out" / "joint" / "1", tmp_path)
    expected = keras_answers(run)

    probabilities = found["classify_image/probabilities"]
    np.testing.assert_allclose(probabilities, expected["image"], atol=1e-5)
    best = expected["image"].argmax(axis=1)
    labels = found["classify_image/top_k_labels"][:, 0].tolist()
    assert labels == [CLASS_NAMES[number].encode() for number in best]

    order = np.argsort(-expected["mlm"], axis=-1)[..., :3]
    scores = np.take_along_axis(expected["mlm"], order, -1)
    scores[0, 1] = 0  # the first text has one mask
    np.testing.assert_allclose(found["fill_mask/scores"], scores, atol=1e-5)
    assert found["embed_text/embedding"].shape == (1, 8)

    # And so says the command, of the run as of what was exported.
    (tmp_path / "image.png").write_bytes(IMAGES[0])
    for checkpoint in (run, tmp_path / "out" / "joint"):
        capsys.readouterr()
        asked = [f"--checkpoint={checkpoint}", "--format=json"]
        status = command_line.run(predict.main, [*asked, f"--image={tmp_path / 'image.png'}"])
        classes = json.loads(capsys.readouterr().out)["classes"]
        assert status == 0 and classes[0]["label"].encode() == labels[0]
        assert abs(classes[0]["probability"] - probabilities[0].max()) < 1e-5
        assert command_line.run(predict.main, [*asked, f"--text={TEXTS[1]}"]) == 0
        masks = json.loads(capsys.readouterr().out)["masks"]
        tokens = [[each["token"] for each in mask][:3] for mask in masks]
        assert tokens == found["fill_mask/tokens"][1].astype("U").tolist()

    flags = [f"--checkpoint={run}", f"--output_dir={tmp_path / 'low'}", "--dtype=bfloat16"]
    assert command_line.run(export.main, flags) == 0
    low = ask(tmp_path / "low" / "joint" / "1", tmp_path)["classify_image/probabilities"]
    np.testing.assert_allclose(low, probabilities, atol=0.02)  # bfloat16 keeps 8 bits
    saved = tf.train.load_checkpoint(str(tmp_path / "low" / "joint/1/variables/variables"))
    kinds = {
        kind
        for name, kind in saved.get_variable_to_dtype_map().items()
        if name.startswith("model_variables")
    }
    assert kinds == {tf.bfloat16}

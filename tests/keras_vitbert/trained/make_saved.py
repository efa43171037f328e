"""What the models in `saved/` answer; `test_saved.py` compares it with `answers.json`.

A run of `pretrain`, of `finetune` on images and (with LoRA) on texts, with two seeds each, of
`convert --task=masked_lm` and of `export`, and the `.keras` file of the first one's network. They
are of an earlier state of the project. For a new format, keep the old files beside the new ones.
"""

import json
import pathlib

TEXT = "word1 word2 [MASK] word3"
PAIR = ("word1 word2", "word1 word4")
TOP_K = 36  # all tokens


def answers(checkpoint, *argv):
    """What `predict` says: a list a row of lists of (name, probability)."""
    from keras_vitbert import predict

    out = pathlib.Path("predictions.json")
    flags = [f"--checkpoint={checkpoint}", f"--top_k={TOP_K}", f"--output={out}", "--format=json"]
    predict.main([*flags, *argv])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    out.unlink()
    answers = [row.get("masks") or [row["classes"]] for row in rows]
    return [[[list(one.values()) for one in some] for some in masks] for masks in answers]


def all_answers(folder, image):
    """What every saved model says of the same image and texts."""
    text, image = [f"--text={TEXT}"], [f"--image={image}"]
    pair = [f"--text={PAIR[0]}", f"--text_pair={PAIR[1]}"]
    return {
        "run": answers(f"{folder}/run", *text),
        "fine_tuned_images": answers(f"{folder}/fine_tuned_images", *image),
        "fine_tuned_texts": answers(f"{folder}/fine_tuned_texts", *pair),
        "preset": answers(f"{folder}/preset", *text),
        "export": answers(f"{folder}/export/vitbert", *text),
    }


def keras_file_answers(path):
    """The logits of the `.keras` file for inputs that are the same everywhere."""
    import keras
    import numpy as np

    network = keras.saving.load_model(path)
    size = network.backbone.image_size
    inputs = {
        "images": np.linspace(0, 1, 2 * size * size * 3, dtype=np.float32).reshape(
            2, size, size, 3
        ),
        "token_ids": np.array([[2, 5, 6, 3], [2, 7, 3, 0]]),
        "segment_ids": np.zeros((2, 4), int),
        "padding_mask": np.array([[1, 1, 1, 1], [1, 1, 1, 0]]),
        "masked_positions": np.array([[1], [1]]),
    }
    return {name: np.asarray(logits).tolist() for name, logits in network(inputs).items()}

"""Writes what `test_saved.py` opens: a run, fine-tuned runs, a preset, a `.keras` file, an export.

    python -m tests.keras_vitbert.trained.make_saved FOLDER

It goes through the commands, as users do, and leaves in `answers.json` what the models said. Files
written by an earlier state of the project show that a later one still opens them; so run this only
for a new format, and keep the old files beside the new ones.
"""

import json
import os
import pathlib
import shutil
import sys

TEXT = "word1 word2 [MASK] word3"
PAIR = ("word1 word2", "word1 word4")
TOP_K = 36  # all tokens


def run(module, *argv):
    """Runs a command of the project."""
    import importlib

    importlib.import_module(f"keras_vitbert.{module}").main(list(argv))


def answers(checkpoint, *argv):
    """What `predict` says: a list a row of lists of (name, probability)."""
    out = pathlib.Path("predictions.json")
    argv = (f"--checkpoint={checkpoint}", f"--top_k={TOP_K}", f"--output={out}", *argv)
    run("predict", *argv, "--format=json")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    out.unlink()
    answers = [row.get("masks") or [row["classes"]] for row in rows]
    return [[[list(one.values()) for one in some] for some in masks] for masks in answers]


def all_answers(folder, image):
    """What every saved model says of the same image and texts."""
    text, image = [f"--text={TEXT}"], [f"--image={image}"]
    pair = [f"--text={PAIR[0]}", f"--text_pair={PAIR[1]}"]
    return {
        "run, image": answers(f"{folder}/run", *image),
        "run, text": answers(f"{folder}/run", *text),
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


def main(folder):
    """Writes everything into a new folder."""
    from tests.keras_vitbert import tiny_tasks
    from tests.keras_vitbert.tiny_runs import write_sources

    folder = pathlib.Path(folder).absolute()
    folder.mkdir(parents=True)
    os.chdir(folder)
    # Relative, so that no path of this machine is recorded.
    pathlib.Path("data").mkdir()
    write_sources("data")
    run("pretrain", "--config=data/config.py", "--variant=vitbert", "--output_dir=run")
    tiny_tasks.write_images("images")
    tiny_tasks.write_texts("texts")
    for kind, flags in (
        ("images", tiny_tasks.IMAGE_FLAGS),
        ("texts", (*tiny_tasks.TEXT_FLAGS, "--config.lora_rank=2")),
    ):
        task = "images" if kind == "images" else "texts"
        argv = (f"--task={task}", f"--data_dir={kind}", f"--output_dir=fine_tuned_{kind}", *flags)
        run("finetune", "--checkpoint=run", "--seeds=2", *argv)
    run("convert", "--checkpoint=run", "--output_dir=preset", "--task=masked_lm")
    run("export", "--checkpoint=run", "--output_dir=export", "--base_path=/models")

    import keras_vitbert

    keras_vitbert.load("run").network.save("network.keras")
    shutil.copy("images/validation/red/005.jpg", "image.jpg")
    content = all_answers(".", "image.jpg") | {"network.keras": keras_file_answers("network.keras")}
    pathlib.Path("answers.json").write_text(json.dumps(content) + "\n")
    for name in ("data", "images", "texts", "run/teachers"):
        shutil.rmtree(name)
    logged = (path for name in ("train", "validation") for path in folder.rglob(name))
    for logs in [*logged, *folder.rglob("predictions.csv")]:
        shutil.rmtree(logs) if logs.is_dir() else logs.unlink()


if __name__ == "__main__":
    main(sys.argv[1])

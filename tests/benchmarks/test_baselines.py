"""`python -m benchmarks.baselines` on data whose answer one model or the other can see."""

import csv
import json
import random

import numpy as np
from PIL import Image

from benchmarks import baselines


def write(folder):
    """Words in and out of an order that only the documents teach; patches, not colours, differ."""
    draw = random.Random(0)
    pairs = [(f"left{n}", f"right{n}") for n in range(200)]
    documents = [
        {"paragraphs": [" ".join(draw.choice(pairs)) for _ in range(10)]} for _ in range(300)
    ]
    (folder / "documents").mkdir()
    (folder / "documents" / "train.jsonl").write_text("\n".join(map(json.dumps, documents)))
    for task in ("next", "swapped", "swapped500"):
        (folder / task).mkdir()
        for split, own in (("train", pairs[:100]), ("test", pairs[100:])):
            rows = [(" ".join(pair), "original") for pair in own]
            rows += [(" ".join(pair[::-1]), "swapped") for pair in own]
            with open(folder / task / f"{split}.tsv", "w", newline="") as file:
                csv.writer(file, delimiter="\t").writerows([("sentence", "label"), *rows])
    noise = np.random.default_rng(0)
    for split in ("train", "test"):
        for number, name in enumerate(("across", "down")):
            (folder / "cifar10" / "task" / split / name).mkdir(parents=True)
            for place in range(20):
                stripes = np.roll(np.arange(16) // 2 % 2, noise.integers(4))
                image = np.broadcast_to(stripes[:, None] if number else stripes, (16, 16))
                path = folder / "cifar10" / "task" / split / name / f"{place}.png"
                Image.fromarray((image * 255).astype(np.uint8)).save(path)


def test_each_model_sees_what_it_can(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setattr(baselines, "_SAMPLE", 500)
    monkeypatch.setattr(baselines, "_PATCHES", 8)
    found = {(task, model): accuracy for task, model, accuracy in baselines.accuracies(tmp_path)}
    assert {task for task, _ in found} == {"next", "swapped", "swapped500", "cifar10"}
    # No word or pair of the test is in the training examples, but all are in the documents.
    for name in ("words", "words, TF-IDF", "words and pairs", "words and pairs, TF-IDF"):
        assert found["swapped", name] == 0.5
    assert found["swapped", "pre-training pairs"] > 0.95
    assert found["cifar10", "whitened patches"] > 0.95

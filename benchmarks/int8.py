"""What int8 changes in the answers of a model without TensorFlow, one input at a time.

    python -m benchmarks.int8 --checkpoint=vitbert_small --images=DIR
                              [--texts=FILE.tsv,...] [--count=5000]

exports the checkpoint in float32 and in int8, and prints for each head and format how many answers
of each are right, and how many are the same. The files have columns `sentence` and `label`. A head
for masked words gets the sentences with one token masked; the answer is this token.
"""

import argparse
import csv
import random
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.anywhere import opened

FORMATS = ("onnx", "litert")


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkpoint", default="vitbert_small")
    parser.add_argument("--images", default="", help="a folder with a folder for each class")
    parser.add_argument("--texts", default="", help="tables, comma-separated")
    parser.add_argument("--count", type=int, default=5000)
    values = parser.parse_args()
    from keras_vitbert.trained.loading import load
    from keras_vitbert.trained.portable.folder import write_folder

    trained = load(values.checkpoint)
    examples = {}
    if values.images:
        examples["image"] = _images(trained, Path(values.images), values.count)
    for head in {"text", "mlm"} & trained.heads.keys() if values.texts else ():
        examples[head] = _texts(trained, head, values.texts.split(","), values.count)
    print("| head | format | examples | float32 right | int8 right | the same |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as work:
        for file_format in FORMATS:
            folders = [f"{work}/{file_format}-{int8}" for int8 in (False, True)]
            for int8, folder in enumerate(folders):
                write_folder(trained, folder, file_format, int8=bool(int8))
            for head, (inputs, right) in examples.items():
                plain, small = (_answers(folder, file_format, head, inputs) for folder in folders)
                shares = (plain == right, small == right, plain == small)
                cells = (f"{np.mean(each):.2%}" for each in shares)
                print(
                    f"| {head} | {file_format} | {len(right):,} | {' | '.join(cells)} |", flush=True
                )


def _answers(folder, file_format, head, inputs):
    """The likeliest class of each input, or token at the place that comes with it."""
    run = opened(folder, file_format, head)
    found = []
    for each, place in inputs:
        logits = run(**each)[0]
        found.append((logits if place is None else logits[place]).argmax())
    return np.array(found)


def _images(trained, folder, count):
    """Images of a folder, drawn at random, as inputs; and the numbers of their classes."""
    import tensorflow as tf

    from pipelines.images.image_decoding import central_crop

    files = sorted(path for path in folder.glob("*/*") if path.is_file())
    files = random.Random(0).sample(files, min(count, len(files)))
    names = trained.classes_of("image") or sorted(path.name for path in folder.iterdir())
    size, crop = trained.backbone.image_size, trained.central_crop
    views = (central_crop(tf.constant(path.read_bytes()), size, crop) for path in files)
    return (
        [({"images": view.numpy()[None]}, None) for view in views],
        np.array([names.index(path.parent.name) for path in files]),
    )


def _texts(trained, head, files, count):
    """Sentences as inputs, each with the place that is masked, if any; and the right answers."""
    from pipelines.text.tokenization import TextEncoder
    from pipelines.text.wordpiece import MASK

    rows = []
    for file in files:
        with open(file, encoding="utf-8", newline="") as lines:
            rows += csv.DictReader(lines, delimiter="\t" if file.endswith(".tsv") else ",")
    chance = random.Random(0)
    rows = chance.sample(rows, min(count, len(rows)))
    encode = TextEncoder(
        trained.vocabulary, trained.backbone.max_sequence_length, trained.lower_case
    )
    inputs, right = [], []
    for row in rows:
        encoded = {name: x.numpy() for name, x in encode([row["sentence"]]).items()}
        place = None
        if head == "mlm":
            place = chance.randrange(1, encoded["token_ids"].shape[1] - 1)
            right.append(encoded["token_ids"][0, place])
            encoded["token_ids"][0, place] = trained.vocabulary.index(MASK)
        else:
            right.append(trained.classes_of(head).index(row["label"]))
        inputs.append((encoded, place))
    return inputs, np.array(right)


if __name__ == "__main__":
    main()

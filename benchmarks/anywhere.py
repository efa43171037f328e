"""Measures exported models beside the SavedModel and `transformers`, in a process for each.

    python -m benchmarks.anywhere [--models=vitbert_small,base] [--threads=1,2] [--seconds=3]

A model is anything that `--checkpoint` takes, or `base` with random weights and 30,000 tokens.
Columns:

    image, text       milliseconds of a graph, for one image and 32, one text of 16 tokens and 32
    first answer      seconds of a new process, from its start to what it says about an image, by
                      the folder's predict.py, or by keras_vitbert.predict for the SavedModel
    folder            megabytes of what is exported
    installed         megabytes of the packages that answering takes, without Python
    resident          megabytes of a process that has answered for an image and a text

Times are medians. The SavedModel also decodes and tokenizes. `transformers`, beside base alone, are
a ViT and a BERT with a head for masked words as PyTorch exports them to ONNX. It needs the extras
`onnx` and `litert`, for these also `parity` and the package onnxscript.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from packaging.requirements import Requirement

from benchmarks.speed_table import aligned

# For each side: the format, and whether its weights are integers.
SIDES = {
    "ONNX float32": ("onnx", False),
    "ONNX int8": ("onnx", True),
    "LiteRT float32": ("litert", False),
    "LiteRT int8": ("litert", True),
    "SavedModel": ("saved_model", False),
}
BASE = "base"  # with random weights
PEERS = {"transformers, ONNX float32": False, "transformers, ONNX int8": True}
PACKAGES = {
    "onnx": ("onnxruntime", "pillow"),
    "litert": ("ai-edge-litert", "pillow"),
    "saved_model": ("keras-vitbert",),
}
HEADER = ("model", "threads", "image ms", "32 images ms", "text ms", "32 texts ms")
HEADER += ("first answer s", "folder MB", "installed MB", "resident MB")
COUNTS = 1, 32  # of inputs at once
TOKENS = 16
SENTENCE = "the " * (TOKENS - 2)
FIRST_ANSWERS = 3  # that are timed


def rows(models="vitbert_small,base", threads="1,2", seconds=3.0) -> list[list[str]]:
    """Exports each model and measures it: the cells of a table."""
    found = []
    for model in models.split(","):
        with tempfile.TemporaryDirectory() as work:
            image = os.path.join(work, "image.png")
            _write_image(image)
            _in_process("export", work, model)
            sides = {side: file_format for side, (file_format, _) in SIDES.items()}
            if model == BASE and importlib.util.find_spec("onnxscript"):
                _in_process("export_peers", work)
                sides |= dict.fromkeys(PEERS, "onnx")
            for side, file_format in sides.items():
                folder, first = os.path.join(work, side), ""
                if side not in PEERS:
                    times = (
                        _first_answer(folder, file_format, image) for _ in range(FIRST_ANSWERS)
                    )
                    first = f"{statistics.median(times):.2f}"
                for count in threads.split(","):
                    line = _in_process("measure", folder, file_format, count, str(seconds))
                    cells = [f"{model}, {side}", count, *line[:-1], first]
                    taken = _megabytes(folder), _installed(PACKAGES[file_format])
                    found.append([*cells, *(f"{number:.1f}" for number in taken), line[-1]])
                    print(*found[-1], sep="  ", file=sys.stderr, flush=True)
    return found


def _in_process(*call):
    """What a function of this module writes in a new process: JSON."""
    line = [sys.executable, "-m", "benchmarks.anywhere", *call]
    return json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE).stdout or "null")


def _write_image(path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def export(work, model):
    """Writes all sides of a model into folders named after them."""
    from keras_vitbert.trained.exporting import export as export_saved_model
    from keras_vitbert.trained.loading import load
    from keras_vitbert.trained.portable.folder import write_folder

    trained = _random() if model == BASE else load(model)
    for side, (file_format, int8) in SIDES.items():
        folder = os.path.join(work, side)
        if file_format == "saved_model":
            export_saved_model(trained, folder, "it")
        else:
            write_folder(trained, folder, file_format, int8=int8)


def _random():
    from benchmarks.steps import paper_config
    from keras_vitbert.model.pretraining_network import build_network
    from keras_vitbert.trained.trained_model import TrainedModel
    from pipelines.text.wordpiece import SPECIAL_TOKENS

    vocabulary = [*SPECIAL_TOKENS, "the"]
    vocabulary += [f"##{number}" for number in range(30_000 - len(vocabulary))]
    config = paper_config(BASE, num_classes=1000, vocabulary_size=len(vocabulary))
    network = build_network(config.model.to_dict())
    rng = np.random.default_rng(0)
    for variable in network.weights:  # scales of 1 and offsets of 0 would be left out of a graph
        variable.assign_add(rng.normal(0, 0.01, variable.shape))
    heads = {"image": network.image_head, "mlm": network.mlm_head}
    path = os.path.join(os.path.dirname(__file__), "none")
    return TrainedModel(path, BASE, network.backbone, heads, vocabulary=vocabulary, network=network)


def export_peers(work):
    """Writes a ViT and a BERT of base size, which take the same inputs as our graphs."""
    import torch
    import transformers
    from onnxruntime.quantization import quantize_dynamic

    class Image(torch.nn.Module):
        def __init__(self):
            super().__init__()
            config = transformers.ViTConfig(num_labels=1000)
            self.network = transformers.ViTForImageClassification(config)

        def forward(self, images):
            return self.network(images.permute(0, 3, 1, 2).float() / 127.5 - 1).logits

    class MaskedWords(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=30_000))

        def forward(self, token_ids, segment_ids, padding_mask):
            return self.network(token_ids, padding_mask, segment_ids).logits

    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=512)
    texts = torch.ones((2, TOKENS), dtype=torch.int32)
    models = {
        "image": (Image(), (torch.zeros((2, 224, 224, 3), dtype=torch.uint8),), ({0: batch},)),
        "mlm": (MaskedWords(), (texts,) * 3, ({0: batch, 1: length},) * 3),
    }
    plain, integers = (os.path.join(work, side) for side in PEERS)
    for folder in (plain, integers):
        os.mkdir(folder)
        with open(os.path.join(folder, "settings.json"), "w") as file:
            json.dump({"image": {"size": 224}}, file)
    for head, (model, inputs, shapes) in models.items():
        path = os.path.join(plain, f"{head}.onnx")
        options = {"dynamo": True, "opset_version": 18, "verbose": False}
        torch.onnx.export(model.eval(), inputs, path, dynamic_shapes=shapes, **options)
        quantize_dynamic(path, os.path.join(integers, f"{head}.onnx"))


def _first_answer(folder, file_format, image):
    """Seconds of a new process."""
    if file_format == "saved_model":
        flags = [f"--checkpoint={folder}/it", f"--image={image}"]
        line = [sys.executable, "-m", "keras_vitbert.predict", *flags]
    else:
        line = [sys.executable, os.path.join(folder, "predict.py"), image]
    began = time.perf_counter()
    subprocess.run(line, check=True, capture_output=True)
    return time.perf_counter() - began


def measure(folder, file_format, threads, seconds):
    """Milliseconds of images and of texts, by how many, and the process' megabytes, as JSON."""
    heads = _opened(folder, file_format, int(threads))
    rng = np.random.default_rng(0)
    calls = [heads[head](rng, count) for head in ("image", "mlm") for count in COUNTS]
    values = [_milliseconds(call, float(seconds)) for call in calls]
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([*(f"{value:.2f}" for value in values), f"{resident:.0f}"]))


def _milliseconds(run, seconds):
    run()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def _opened(folder, file_format, threads):
    """By head: a function of a generator and of a number of inputs to a call that answers them."""
    if file_format == "saved_model":
        return _saved_model(os.path.join(folder, "it", "1"), threads)
    with open(os.path.join(folder, "settings.json")) as file:
        side = json.load(file)["image"]["size"]

    image, mlm = (opened(folder, file_format, head, threads) for head in ("image", "mlm"))

    def of_image(rng, count):
        images = rng.integers(0, 256, (count, side, side, 3), np.uint8)
        return lambda: image(images=images)

    def of_text(rng, count):
        token_ids = rng.integers(5, 1000, (count, TOKENS), np.int32)
        inputs = {"segment_ids": token_ids * 0, "padding_mask": token_ids * 0 + 1}
        return lambda: mlm(token_ids=token_ids, **inputs)

    return {"image": of_image, "mlm": of_text}


def opened(folder, file_format, head, threads=1):
    """A graph of a portable folder, as a function of its inputs by name to its logits."""
    if file_format == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(os.path.join(folder, f"{head}.onnx"), options)
        return lambda **inputs: session.run(None, inputs)[0]
    from ai_edge_litert.interpreter import Interpreter

    path = os.path.join(folder, f"{head}.tflite")
    runner = Interpreter(path, num_threads=threads).get_signature_runner()
    return lambda **inputs: runner(**inputs)[f"{head}_logits"]


def _saved_model(path, threads):
    """The same of a SavedModel, whose graphs also decode and tokenize."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  for the operations in the graph

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    signatures = tf.saved_model.load(path).signatures

    def of_image(rng, count):
        encoded = tf.io.encode_png(rng.integers(0, 256, (32, 32, 3), np.uint8))
        images = tf.repeat(encoded[None], count)
        return lambda: signatures["classify_image"](image=images)

    def of_text(rng, count):
        texts = tf.constant([f"{SENTENCE} [MASK]"] * count)
        return lambda: signatures["fill_mask"](text=texts)

    return {"image": of_image, "mlm": of_text}


def _megabytes(folder):
    files = (os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return sum(map(os.path.getsize, files)) / 1e6


def _installed(packages):
    """Megabytes of packages and of what they need, without extras; of ours, of what it needs."""
    waiting, seen, total = list(packages), set(), 0
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # of another platform
            continue
        if name != "keras-vitbert":
            total += sum(file.size or 0 for file in package.files or ()) / 1e6
        wanted = map(Requirement, package.requires or ())
        waiting += [w.name for w in wanted if not w.marker or w.marker.evaluate({"extra": ""})]
    return total


def main() -> None:
    """Runs the benchmark, or a part of it in a process of its own."""
    if sys.argv[1:2] in (["export"], ["export_peers"], ["measure"]):
        globals()[sys.argv[1]](*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", default="vitbert_small,base")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=3.0)
    print("\n".join(aligned(HEADER, rows(**vars(parser.parse_args())))))


if __name__ == "__main__":
    main()

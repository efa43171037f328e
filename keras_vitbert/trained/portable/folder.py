"""Writes the folder of a trained model that needs no TensorFlow.

| file | holds |
| --- | --- |
| `image.onnx`, `text.onnx`, `mlm.onnx` | the heads that the model has, see `head_graphs` |
| `weights.bin` | their weights; LiteRT's files, `image.tflite` and so on, hold their own |
| `settings.json` | sizes, crop, class names |
| `vocabulary.txt`, `characters.json` | the tokenizer's tokens, and its rules for characters |
| `predict.py` | asks the graphs about images and texts |
| `README.md`, `origin.json`, `sha256sums.txt` | as of every shared model |
"""

import dataclasses
import json
import os
import pathlib
from typing import Any

from keras_vitbert.trained.portable.character_table import table
from keras_vitbert.trained.portable.head_graphs import HEADS
from keras_vitbert.trained.sharing import write_shared
from keras_vitbert.trained.trained_model import TrainedModel
from pipelines.files import write_atomically
from pipelines.status import doing
from pipelines.text.wordpiece import write_vocabulary


def write_folder(
    trained: TrainedModel, path: str, file_format: str, name: str = "", int8: bool = False
) -> None:
    """Writes the complete folder at a local path, or nothing.

    Args:
        file_format: `onnx` or `litert`.
        name: in the settings; the model's own if empty.
        int8: whether weights become int8, where that changes few answers.

    Raises:
        ValueError: the model has no head, or the graphs' answers differ from the model's.
    """
    if file_format == "onnx":
        from keras_vitbert.trained.portable.onnx_graphs import write_onnx as write_graphs
    else:
        from keras_vitbert.trained.portable.litert_graphs import write_litert as write_graphs

    is_usable = {"image": True, "text": trained.vocabulary, "mlm": trained.vocabulary}
    heads = {
        head: trained.heads[head] for head in HEADS if head in trained.heads and is_usable[head]
    }
    if not heads:
        raise ValueError(f"{trained.path}: has no head that it can answer with; nothing to export")
    trained = dataclasses.replace(trained, heads=heads, name=name or trained.name)
    model = trained.in_dtype("float32")

    def write(folder: str) -> None:
        with doing(f"writing and checking {', '.join(heads)}"):
            write_graphs(model, folder, int8)
        files = {"settings.json": _settings(trained, int8)}
        if len(heads) > ("image" in heads):
            files["characters.json"] = table(trained.lower_case)
            write_vocabulary(os.path.join(folder, "vocabulary.txt"), trained.vocabulary or [])
        for file, content in files.items():
            text = json.dumps(content, ensure_ascii=False, indent=1)
            write_atomically(os.path.join(folder, file), text + "\n")
        script = pathlib.Path(__file__).parent / "templates" / "predict.py"
        write_atomically(os.path.join(folder, "predict.py"), script.read_bytes())

    write_shared(path, write, trained, "portable")


def _settings(trained: TrainedModel, int8: bool) -> dict[str, Any]:
    settings: dict[str, Any] = {"format": 1, "name": trained.name}
    if "image" in trained.heads:
        size, crop = trained.backbone.image_size, trained.central_crop
        settings["image"] = {"size": size, "central_crop": crop, **_classes(trained, "image")}
    if trained.heads.keys() - {"image"}:
        length = trained.backbone.max_sequence_length
        settings["text"] = {"max_length": length, **_classes(trained, "text")}
    return {**settings, "int8": int8}


def _classes(trained: TrainedModel, head: str) -> dict[str, list[str]]:
    if head not in trained.heads:
        return {}
    count = trained.heads[head].num_classes
    return {"classes": trained.classes_of(head) or [str(number) for number in range(count)]}

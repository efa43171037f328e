"""A portable folder as one HTML page: its graphs, ONNX Runtime Web, and a program that asks them.

What is in the page is all that it needs: its policy lets it load nothing.
"""

import base64
import gzip
import hashlib
import json
import os
import pathlib
import re
import tempfile

from keras_vitbert.trained.portable.folder import write_folder
from keras_vitbert.trained.portable.head_graphs import HEADS
from keras_vitbert.trained.trained_model import TrainedModel
from pipelines.files import make_folder, write_atomically
from pipelines.status import doing

_RUNTIME = {  # of the npm package: the smallest build, which runs on the processor
    "runtime": "dist/ort.wasm.bundle.min.mjs",
    "wasm": "dist/ort-wasm-simd-threaded.wasm",
}


def write_page(
    trained: TrainedModel, path: str, runtime: str, name: str = "", int8: bool = False
) -> None:
    """Writes `index.html` into a local folder, or nothing.

    Args:
        runtime: the unpacked npm package `onnxruntime-web`.
        name: on the page; the model's own if empty.
        int8: see `write_folder`.

    Raises:
        ValueError: `runtime` is another folder, or as `write_folder`.
    """
    version, packed = _read_runtime(runtime)
    with tempfile.TemporaryDirectory() as temporary:
        folder = os.path.join(temporary, "model")
        write_folder(trained, folder, "onnx", name, int8)
        with doing("writing the page"):
            text = _page(pathlib.Path(folder), version, packed)
    make_folder(path)
    write_atomically(os.path.join(path, "index.html"), text)


def _read_runtime(path: str) -> tuple[str, dict[str, str]]:
    """The version of ONNX Runtime Web, and its files as they stand in a page."""
    package = pathlib.Path(path)
    try:
        version = json.loads((package / "package.json").read_bytes())["version"]
        return version, {
            name: _packed((package / file).read_bytes()) for name, file in _RUNTIME.items()
        }
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"runtime={path}: is not the unpacked npm package onnxruntime-web ({error})"
        ) from error


def _page(model: pathlib.Path, version: str, packed: dict[str, str]) -> str:
    """The page of a folder of ONNX graphs."""
    heads = [head for head in HEADS if (model / f"{head}.onnx").exists()]
    files = {**{head: f"{head}.onnx" for head in heads}, "weights": "weights.bin"}
    packed = packed | {name: _packed((model / file).read_bytes()) for name, file in files.items()}
    size = sum((model / file).stat().st_size for file in files.values())
    settings = json.loads((model / "settings.json").read_bytes())
    content = {
        "title": _title(settings),
        "facts": _facts(settings, size),
        "settings": settings,
        "heads": heads,
    }
    if "text" in settings:
        words = (model / "vocabulary.txt").read_bytes().decode().removesuffix("\n").split("\n")
        characters = json.loads((model / "characters.json").read_bytes())
        content |= {"vocabulary": words, "table": characters}
    templates = pathlib.Path(__file__).parent / "templates"
    template = (templates / "page.html").read_text("utf-8")
    program = (templates / "page.mjs").read_text("utf-8")
    [style] = re.findall("<style>(.*?)</style>", template, re.DOTALL)
    values = {
        "policy": f"default-src 'none'; script-src {_digest(program)} blob: 'wasm-unsafe-eval'; "
        f"style-src {_digest(style)}; img-src blob:; base-uri 'none'; form-action 'none'",
        "version": version,
        # Names of classes may be anything, also the end of a script.
        "model": json.dumps(content, ensure_ascii=False).replace("<", "\\u003c"),
        "blobs": "\n".join(
            f'<script type="text/plain" id="packed_{name}">{text}</script>'
            for name, text in packed.items()
        ),
        "program": program,
    }
    return re.sub("{{(.*?)}}", lambda name: values[name[1]], template)


def _title(settings: dict) -> str:
    """The model's name, and what it takes if the name does not say more than that."""
    kinds = [f"{kind}s" for kind in ("image", "text") if kind in settings]
    plain = settings["name"] in (*kinds, ",".join(kinds))
    return f"A model of {' and '.join(kinds)}" if plain else settings["name"]


def _facts(settings: dict, size: int) -> str:
    """The model's size and what it takes, in a sentence."""
    facts = [f"{size / 1e6:.1f} MB" + " in 8-bit integers" * bool(settings.get("int8"))]
    if image := settings.get("image"):
        facts.append(f"images of {image['size']} × {image['size']}")
    if text := settings.get("text"):
        facts.append(f"texts of up to {text['max_length']} tokens")
    for kind in ("image", "text"):
        if classes := settings.get(kind, {}).get("classes"):
            facts.append(f"{len(classes):,} classes of {kind}s")
    return ", ".join(facts) + "."


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, mtime=0)).decode()


def _digest(source: str) -> str:
    """A source that a policy allows."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"

"""Writes a trained model as a SavedModel, or as a folder that needs no TensorFlow.

    python -m keras_vitbert.export --checkpoint=DIR --output_dir=DIR [--name=NAME] [--version=N]
                                   [--dtype=float32|bfloat16] [--top_k=5] [--base_path=PATH]
    python -m keras_vitbert.export --checkpoint=DIR --output_dir=DIR --format=onnx|litert [--int8]
                                   [--name=NAME]
    python -m keras_vitbert.export --checkpoint=DIR --output_dir=DIR --format=html --runtime=DIR
                                   [--int8] [--name=NAME]

The SavedModel, for TensorFlow Serving or plain TensorFlow, takes encoded images and plain strings;
the graph does the rest. DIR is the folder of a run of pretrain or finetune, a preset, or a BERT or
ViT of Hugging Face (also hf://OWNER/NAME), keras-hub or Google. It writes OUTPUT_DIR/NAME/VERSION
and OUTPUT_DIR/models.config.

The folder of --format=onnx or litert, which must be new or empty, holds graphs for onnxruntime or
LiteRT and a `predict.py` for them; the graphs' answers are compared with the model's. It takes
`pip install -e ".[onnx]"` or `".[litert]"`. --int8 stores weights as integers.

--format=html writes index.html there, a page that holds the ONNX graphs and what runs them, and
needs no network: RUNTIME is the npm package onnxruntime-web, unpacked.
Exit status: 0 done, 2 bad flag or folder.
"""

import importlib.util
import os
import sys

from keras_vitbert.trained.places import require_place
from pipelines.command_line import install, load_tensorflow, quiet_loading, run
from pipelines.flags import define_flags, parse_flags
from pipelines.status import doing

DTYPES = ("float32", "bfloat16")
# What writes each format, and runs it; a page has graphs of ONNX.
PACKAGES = {
    "saved_model": (),
    "onnx": ("onnx", "onnxruntime", "tf2onnx"),
    "litert": ("ai_edge_litert",),
}
OF_SAVED_MODELS = ("version", "top_k", "base_path", "dtype")


def main(argv: list[str]) -> str:
    """Runs the command, and returns the folder that was written."""
    from absl import flags

    values = define_flags(
        ("checkpoint", "", "a run of pretrain or finetune, a preset, or a BERT or ViT, see above"),
        ("output_dir", "", "where the model is written, as NAME/VERSION"),
        ("name", "", "what clients call the model (default: the variant or task)"),
        ("version", None, "its version number (default: the next free one)", 1),
        ("top_k", 5, "how many classes or tokens to return", 1),
        ("base_path", "", "the path of OUTPUT_DIR on the server (default: its absolute path)"),
    )
    flags.DEFINE_enum("dtype", DTYPES[0], DTYPES, "of the variables", flag_values=values)
    formats = [*PACKAGES, "html"]
    flags.DEFINE_enum("format", formats[0], formats, "what to write", flag_values=values)
    flags.DEFINE_string("runtime", None, "the folder of ONNX Runtime Web", flag_values=values)
    flags.DEFINE_boolean("int8", False, "weights as integers of 8 bits", flag_values=values)
    parse_flags(values, argv, __doc__ or "", required=("checkpoint", "output_dir"))
    require_place(values.checkpoint)
    path, is_portable = values.output_dir, values.format != "saved_model"
    others = OF_SAVED_MODELS if is_portable else ("int8",)
    for flag in others if values.format == "html" else (*others, "runtime"):
        if values[flag].present:
            raise ValueError(f"--{flag} has no effect with --format={values.format}; leave it out")
    extra = "onnx" if values.format == "html" else values.format
    for package in PACKAGES[extra]:
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"{package} is not installed; run: {install(extra)}")
    if values.format == "html" and not values.runtime:
        raise ValueError("--runtime is missing; run: npm pack onnxruntime-web@1.30, and unpack it")
    if is_portable:
        if "://" in path:
            raise ValueError(f"{path}: give a local folder, and copy it")
        if os.path.exists(path) and (not os.path.isdir(path) or os.listdir(path)):
            raise ValueError(f"{path}: already exists; give another --output_dir, or remove it")

    load_tensorflow()
    with quiet_loading():
        from keras_vitbert.trained.exporting import export
        from keras_vitbert.trained.loading import load

    with doing(f"opening {values.checkpoint}"):
        trained = load(values.checkpoint, values.dtype)
    if is_portable:
        if values.format == "html":
            from keras_vitbert.trained.portable.page import write_page

            write_page(trained, path, values.runtime, values.name, values.int8)
        else:
            from keras_vitbert.trained.portable.folder import write_folder

            write_folder(trained, path, values.format, values.name, values.int8)
        print(f"{path}: {', '.join(sorted(os.listdir(path)))}")
        return path
    folder, served = export(
        trained, values.output_dir, values.name, values.version, values.top_k, values.base_path
    )
    print(f"{folder}: {', '.join(served.functions)}")
    return folder


if __name__ == "__main__":
    sys.exit(run(main))

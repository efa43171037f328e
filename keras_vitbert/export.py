"""Writes a trained model as a SavedModel for TensorFlow Serving or plain TensorFlow.

    python -m keras_vitbert.export --checkpoint=DIR --output_dir=DIR [--name=NAME] [--version=N]
                                   [--dtype=float32|bfloat16] [--top_k=5] [--base_path=PATH]

The SavedModel takes encoded images and plain strings; the graph does the rest. DIR is the folder of
a run of pretrain or finetune, a preset, or a BERT or ViT of Hugging Face (also hf://OWNER/NAME),
keras-hub or Google. It writes OUTPUT_DIR/NAME/VERSION and
OUTPUT_DIR/models.config.
Exit status: 0 done, 2 bad flag or folder.
"""

import sys

from keras_vitbert.trained.places import require_place
from pipelines.command_line import load_tensorflow, quiet_loading, run
from pipelines.flags import define_flags, parse_flags
from pipelines.status import doing

DTYPES = ("float32", "bfloat16")


def main(argv: list[str]) -> str:
    """Runs the command, and returns the folder of the version that was written."""
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
    parse_flags(values, argv, __doc__ or "", required=("checkpoint", "output_dir"))
    require_place(values.checkpoint)

    load_tensorflow()
    with quiet_loading():
        from keras_vitbert.trained.exporting import export
        from keras_vitbert.trained.loading import load

    with doing(f"opening {values.checkpoint}"):
        trained = load(values.checkpoint, values.dtype)
    folder, served = export(
        trained, values.output_dir, values.name, values.version, values.top_k, values.base_path
    )
    print(f"{folder}: {', '.join(served.functions)}")
    return folder


if __name__ == "__main__":
    sys.exit(run(main))

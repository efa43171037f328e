"""Writes a model to share: a keras-hub preset, a Hugging Face folder, or the weights of a run.

    python -m keras_vitbert.convert --checkpoint=SOURCE --output_dir=DIR
                                    [--task=image_classifier|text_classifier|masked_lm|backbone]
    python -m keras_vitbert.convert --checkpoint=SOURCE --output_dir=DIR --format=hugging_face
    python -m keras_vitbert.convert --checkpoint=RUN --output_dir=DIR --format=run
                                    [--dtype=float32|bfloat16]

SOURCE is the folder of a run of `pretrain` or `finetune`, or a BERT or ViT: a Hugging Face folder
or `hf://owner/name`, a keras-hub preset, or a checkpoint of Google's. Load a preset with
`from_preset` of `keras_vitbert.trained.hub`, fine-tune it with `finetune --checkpoint=DIR`, start
from it with `pretrain --initial_weights=DIR`, upload it with `keras_hub.upload_preset`. The folder
also holds a model card, `README.md`, and `origin.json`, which says what the model was made from.

With --format=hugging_face, transformers can read the folder: a run that normalises last
(`--config.model.norm=post`) as a BERT, one that normalises first as a ViT. Heads that transformers
cannot hold are left out, and the command says so.

With --format=run, the folder takes the place of a run of `pretrain` in every command of this
project, with its heads for images and for text. It holds no training state, so no run can resume
from it. --dtype=bfloat16 rounds the weights, which halves the file.

Exit status: 0 done, 2 bad flag or file.
"""

import functools
import os
import sys
from typing import Any

from keras_vitbert.trained.places import require_place
from pipelines.command_line import load_tensorflow, run, say
from pipelines.flags import define_flags, parse_flags

FORMATS = ("keras_hub", "hugging_face", "run")
DTYPES = ("float32", "bfloat16")


def main(argv: list[str]) -> str:
    """Runs the command, and returns the folder that was written."""
    from absl import flags

    values = define_flags(
        ("checkpoint", "", "a run's folder, or a BERT or ViT, see above"),
        ("output_dir", "", "where to write it: a new or empty folder"),
        ("task", "", "which head to write, if the checkpoint has several (default: the first)"),
    )
    flags.DEFINE_enum("format", FORMATS[0], FORMATS, "the format to write", flag_values=values)
    flags.DEFINE_enum(
        "dtype", DTYPES[0], DTYPES, "dtype of the weights, for --format=run", flag_values=values
    )
    parse_flags(values, argv, __doc__ or "", required=("checkpoint", "output_dir"))
    require_place(values.checkpoint)
    path = values.output_dir
    if "://" in path:
        raise ValueError(f"{path}: give a local folder, and upload it")
    if os.path.exists(path) and (not os.path.isdir(path) or os.listdir(path)):
        raise ValueError(f"{path}: already exists; give another --output_dir, or remove it")
    for flag, of_format in (("task", "keras_hub"), ("dtype", "run")):
        if values[flag].value != values[flag].default and values.format != of_format:
            raise ValueError(f"--{flag} has no effect without --format={of_format}; leave it out")

    load_tensorflow()
    from keras_vitbert.trained.hub import available_kinds, build_task
    from keras_vitbert.trained.hugging_face_folder import HuggingFaceModel
    from keras_vitbert.trained.loading import load
    from keras_vitbert.trained.sharing import round_weights, write_shared, write_weights

    trained = load(values.checkpoint)
    if values.format == "keras_hub":
        what = kind = values.task or available_kinds(trained)[0]
        if kind not in available_kinds(trained):
            kinds = ", ".join(available_kinds(trained))
            raise ValueError(f"--task={kind}: {values.checkpoint} has no such head; it has {kinds}")
        write = build_task(trained, kind).save_to_preset
    elif values.format == "hugging_face":
        model = HuggingFaceModel(trained)
        what = kind = model.architecture
        for part in model.left_out:
            say(f"{values.checkpoint}: {part} has no place in a {what}; left out")
        write = model.write
    else:
        what, kind = "weights", "run"
        if "variant" not in trained.record.get("experiment", {}):
            raise ValueError(f"{values.checkpoint}: --format=run is for a run of pretrain")
        network: Any = trained.network
        round_weights(network, values.dtype)
        write = functools.partial(write_weights, trained, dtype=values.dtype)
    write_shared(path, write, trained, kind)
    print(f"{what} of {trained.name}: {path}")
    return path


if __name__ == "__main__":
    sys.exit(run(main))

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
import json
import math
import os
import shutil
import sys
import tempfile

from keras_vitbert.trained.places import require_place
from pipelines.command_line import load_tensorflow, run, say
from pipelines.flags import define_flags, parse_flags

FORMATS = ("keras_hub", "hugging_face", "run")
DTYPES = ("float32", "bfloat16")


def main(argv):
    """Runs the command.

    Args:
        argv: list of str, without the program's name.

    Returns:
        str, the folder that was written.
    """
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
    parse_flags(values, argv, __doc__, required=("checkpoint", "output_dir"))
    require_place(values.checkpoint)
    _check_output(values.output_dir)
    if values.format != "keras_hub" and values.task:
        raise ValueError(
            f"--task={values.task} has no effect with --format={values.format}, which takes all "
            "heads that have a place; leave it out"
        )
    if values.format != "run" and values.dtype != DTYPES[0]:
        raise ValueError(f"--dtype={values.dtype} has no effect without --format=run; leave it out")

    load_tensorflow()
    from keras_vitbert.runs.origin import origin_of
    from keras_vitbert.trained.loading import load
    from keras_vitbert.trained.model_card import model_card

    trained = load(values.checkpoint)
    parts = {"keras_hub": _preset, "hugging_face": _hugging_face, "run": _run}
    what, write, kind, architecture = parts[values.format](trained, values)
    made_of = origin_of(trained)
    card = model_card(trained, kind, made_of, architecture)
    _write(values.output_dir, write, trained.network.weights, made_of, card)
    print(f"{what} of {trained.name}: {values.output_dir}")
    return values.output_dir


def _preset(trained, values):
    """What is written, a callable that writes it to a folder, and two arguments of its card."""
    from keras_vitbert.trained.presets import available_kinds, build_task

    kinds = available_kinds(trained)
    kind = values.task or kinds[0]
    if kind not in kinds:
        raise ValueError(
            f"--task={kind}: {values.checkpoint} has no such head; it has {', '.join(kinds)}"
        )
    return kind, build_task(trained, kind).save_to_preset, kind, ""


def _hugging_face(trained, values):
    from keras_vitbert.trained.hugging_face_folder import HuggingFaceModel

    model = HuggingFaceModel(trained)
    for part in model.left_out:
        say(f"{values.checkpoint}: {part} has no place in a {model.architecture}; left out")
    return model.architecture, model.write, "backbone", model.architecture


def _run(trained, values):
    from keras_vitbert.trained.sharing import round_weights, write_weights

    if "variant" not in trained.record.get("experiment", {}):
        raise ValueError(
            f"{values.checkpoint}: is not a run of pretrain, which --format=run is for; leave that "
            "out for a preset, which holds this model whole"
        )
    round_weights(trained.network, values.dtype)
    return "weights", functools.partial(write_weights, trained, dtype=values.dtype), "run", ""


def _check_output(path):
    if "://" in path:
        raise ValueError(
            f"{path}: give a local folder, and upload it with keras_hub.upload_preset or "
            "huggingface_hub"
        )
    if os.path.exists(path) and (not os.path.isdir(path) or os.listdir(path)):
        raise ValueError(f"{path}: already exists; give another --output_dir, or remove it")


def _write(path, write, weights, made_of, card):
    """Writes the complete folder or nothing."""
    from keras_vitbert.runs.origin import ORIGIN_FILE
    from keras_vitbert.trained.model_card import FILE
    from pipelines.digests import write_sums
    from pipelines.files import write_atomically

    target = os.path.realpath(path)  # `path` may be a link to an empty folder
    parent = os.path.dirname(target)
    try:
        os.makedirs(parent, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".preset-") as work:
            _reserve(os.path.join(work, "reserved"), weights)
            folder = os.path.join(work, "preset")
            os.mkdir(folder)
            write(folder)
            origin = json.dumps(made_of, indent=2) + "\n"
            write_atomically(os.path.join(folder, ORIGIN_FILE), origin)
            write_sums(folder)  # before the model card is written, which people may change
            write_atomically(os.path.join(folder, FILE), card)
            if os.path.isdir(target):
                os.rmdir(target)
            shutil.move(folder, target)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error})") from error


def _reserve(path, weights):
    """Checks that the disk has room: h5py may crash the process if it has none."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    size = sum(math.prod(weight.shape) * 4 for weight in weights)
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 2 * size + (1 << 20))  # the layout takes room too
    os.unlink(path)


if __name__ == "__main__":
    sys.exit(run(main))

"""Writes a keras-hub preset from a run, or from a ViT of another project.

    python -m keras_vitbert.convert --checkpoint=SOURCE --output_dir=DIR
                                    [--task=image_classifier|text_classifier|masked_lm|backbone]

SOURCE is the folder of a run of `pretrain` or `finetune`, or a ViT: a Hugging Face folder or
`hf://owner/name`, a keras-hub preset, or one of Google's `.npz` files. Of a ViT only the backbone
is written; its blocks are the same as ours and compute the same numbers. Load a preset by
`from_preset` of `keras_vitbert.hub`, fine-tune it by `finetune --checkpoint=DIR`, start from it by
`pretrain --initial_weights=DIR`, upload it by `keras_hub.upload_preset`. The preset includes a
model card, `README.md`, and `origin.json`, which says what the model was made of.

Exit status: 0 done, 2 bad flag or file.
"""

import json
import math
import os
import shutil
import sys
import tempfile

from pipelines.command_line import UserError, define_flags, load_tensorflow, parse_flags, run


def main(argv):
    """Runs the command.

    Args:
        argv: list of str, without the program's name.

    Returns:
        str, the folder that was written.
    """
    values = define_flags(
        ("checkpoint", "", "a run's folder, or a ViT, see above"),
        ("output_dir", "", "where to write the preset: a new or empty folder"),
        ("task", "", "which head to write, if the checkpoint has several (default: the first)"),
    )
    parse_flags(values, argv, __doc__, required=("checkpoint", "output_dir"))
    _check_output(values.output_dir)

    load_tensorflow()
    from keras_vitbert.hub.model_card import model_card
    from keras_vitbert.hub.presets import available_kinds, build_task
    from keras_vitbert.runs.identity import origin
    from keras_vitbert.trained.loading import load

    try:
        trained = load(values.checkpoint)
    except UserError as error:  # begins with the path
        raise UserError(f"--checkpoint={error}") from error
    kinds = available_kinds(trained)
    kind = values.task or kinds[0]
    if kind not in kinds:
        raise UserError(f"--task={kind}: {values.checkpoint} has none; it has {', '.join(kinds)}")
    made_of = origin(trained)
    task = build_task(trained, kind)
    _write(values.output_dir, task, made_of, model_card(trained, kind, made_of))
    print(f"{kind} of {trained.name}: {values.output_dir}")
    return values.output_dir


def _check_output(path):
    if "://" in path:
        raise UserError(
            f"--output_dir={path}: presets are written to a local folder; give one, and upload it "
            "with keras_hub.upload_preset"
        )
    if os.path.exists(path) and (not os.path.isdir(path) or os.listdir(path)):
        raise UserError(f"--output_dir={path}: already exists; give another, or remove it")


def _write(path, task, made_of, card):
    """Writes the complete folder or nothing."""
    from keras_vitbert.hub.model_card import FILE
    from keras_vitbert.runs.identity import ORIGIN_FILE
    from pipelines.files import write_atomically, write_sums

    parent = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(parent, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".preset-") as work:
            _reserve(os.path.join(work, "reserved"), task)
            folder = os.path.join(work, "preset")
            task.save_to_preset(folder)
            origin = json.dumps(made_of, indent=2) + "\n"
            write_atomically(os.path.join(folder, ORIGIN_FILE), origin)
            write_sums(folder)  # not of the model card, which is for people to change
            write_atomically(os.path.join(folder, FILE), card)
            if os.path.isdir(path):
                os.rmdir(path)
            shutil.move(folder, path)
    except OSError as error:
        raise UserError(f"--output_dir={path}: cannot be written ({error}); fix that") from error


def _reserve(path, task):
    """Finds out whether the disk has room: h5py may crash the process where it has none."""
    size = sum(math.prod(weight.shape) * 4 for weight in task.weights)
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 2 * size + (1 << 20))  # the layout takes room too
    os.unlink(path)


if __name__ == "__main__":
    sys.exit(run(main))

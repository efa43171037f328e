"""Pre-trains ViT-BERT, or one of the variants of the paper's Table 1.

    python -m keras_vitbert.pretrain [--config=sample|small|paper|quick|FILE.py] [--variant=vitbert]
                                     [--output_dir=DIR] [--config.KEY=VALUE ...]
                                     [--image_teacher=WHERE] [--text_teacher=WHERE]
                                     [--profile=START,STOP]

Run again, it resumes where it was stopped. Exit status: 0 done, 2 bad flag or file, 3 diverged,
75 stopped by a signal after a checkpoint.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from keras_vitbert.configs.pretraining import VARIANTS
from keras_vitbert.experiments.flags import (
    RUN_FLAGS,
    config_label,
    define,
    parse_pretraining,
    run_options,
)
from pipelines.command_line import choose_backend, quiet_loading, run

if TYPE_CHECKING:
    from absl.flags import FlagValues


def define_flags(values: FlagValues) -> None:
    """Defines the flags other than `--config`, on an `absl.flags.FlagValues`."""
    define(
        values,
        ("variant", "vitbert", f"what to train: {', '.join(VARIANTS)}"),
        ("output_dir", "", "the run's folder (default: runs/CONFIG-VARIANT)"),
        (
            "image_teacher",
            "",
            "a run, or a ViT or DeiT of another project that classifies images: the folder of a "
            "Hugging Face model or keras-hub preset, hf://OWNER/NAME, a preset's name, a .npz of "
            "Google's (default: OUTPUT_DIR/teachers/vit, made on demand)",
        ),
        (
            "text_teacher",
            "",
            "a run, or a BERT of another project with a masked-LM head: the folder of a Hugging "
            "Face model or keras-hub preset, hf://OWNER/NAME, a preset's name, a checkpoint of "
            "Google's (default: OUTPUT_DIR/teachers/bert, made on demand)",
        ),
        (
            "initial_weights",
            "",
            "a run, a preset, or a BERT or ViT to start from (default: random)",
        ),
        *RUN_FLAGS,
        ("profile", "", "START,STOP: the steps to trace for TensorBoard's profile plug-in"),
        (
            "skip_damaged",
            0,
            "how many damaged records may be skipped; above 0, all are checked first",
            0,
        ),
        ("cache", False, "keep training records in memory once they are read"),
        ("cache_dir", "", "the folder of prepared sample data (default: ~/.cache/keras_vitbert)"),
    )


def main(argv: list[str]) -> dict[str, Any]:
    """Runs the command; returns the content of `summary.json`."""
    values, config = parse_pretraining(argv, define_flags, __doc__ or "")
    choose_backend(values.backend)
    default = os.path.join("runs", f"{config_label(values)}-{config.variant}")
    with quiet_loading():
        from keras_vitbert.experiments.experiment import open_run

    opened = open_run(
        config,
        values.output_dir or default,
        image_teacher=values.image_teacher,
        text_teacher=values.text_teacher,
        initial_weights=values.initial_weights,
        skip_damaged=values.skip_damaged,
        cache=values.cache,
        cache_dir=values.cache_dir,
        profile=_steps(values.profile),
        writes=not values.dry_run,
        **run_options(values),
    )
    return opened.train(values.dry_run)


def _steps(text: str) -> tuple[int, ...]:
    """The numbers of `--profile`."""
    try:
        return tuple(int(number) for number in text.split(",")) if text else ()
    except ValueError:
        raise ValueError(f"--profile={text}: must be START,STOP, such as 100,110") from None


if __name__ == "__main__":
    sys.exit(run(main))

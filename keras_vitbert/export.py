"""Writes a trained model as a SavedModel for TensorFlow Serving or plain TensorFlow.

    python -m keras_vitbert.export --checkpoint=DIR --output_dir=DIR [--name=NAME] [--version=N]
                                   [--dtype=float32|bfloat16] [--top_k=5] [--base_path=PATH]

The SavedModel takes encoded images and plain strings; the graph does the rest. DIR is the folder of
a run of pretrain or finetune, or a preset. It writes OUTPUT_DIR/NAME/VERSION and
OUTPUT_DIR/models.config.
Exit status: 0 done, 2 bad flag or folder.
"""

import sys

from pipelines.command_line import UserError, load_tensorflow, parse_flags, quiet_loading, run

DTYPES = ("float32", "bfloat16")


def main(argv):
    """Runs the command.

    Args:
        argv: list of str, without the program's name.

    Returns:
        str, the folder of the version that was written.
    """
    from absl import flags

    values = flags.FlagValues()

    def string(name, default, text):
        flags.DEFINE_string(name, default, text, flag_values=values)

    def integer(name, default, text):
        flags.DEFINE_integer(name, default, text, lower_bound=1, flag_values=values)

    string("checkpoint", "", "the folder of a run of pretrain or finetune, or a preset")
    string("output_dir", "", "where the model is written, as NAME/VERSION")
    string("name", "", "what clients call the model (default: the variant or task)")
    integer("version", None, "its version number (default: the next free one)")
    flags.DEFINE_enum("dtype", DTYPES[0], DTYPES, "of the variables", flag_values=values)
    integer("top_k", 5, "how many classes or tokens to return")
    string("base_path", "", "the path of OUTPUT_DIR on the server (default: its absolute path)")
    parse_flags(values, argv, __doc__)
    for flag, what in (("checkpoint", "a run"), ("output_dir", "what to write")):
        if not getattr(values, flag):
            raise UserError(f"--{flag} is missing; give the folder of {what}")

    load_tensorflow()
    with quiet_loading():
        from keras_vitbert.serving.exporting import export
        from keras_vitbert.trained.loading import load

    trained = load(values.checkpoint, values.dtype)
    folder, served = export(
        trained, values.output_dir, values.name, values.version, values.top_k, values.base_path
    )
    print(f"{folder}: {', '.join(served.functions)}")
    return folder


if __name__ == "__main__":
    sys.exit(run(main))

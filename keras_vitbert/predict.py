"""Predicts with a trained model, for images or texts.

    python -m keras_vitbert.predict --checkpoint=DIR --image=FILE|FOLDER
    python -m keras_vitbert.predict --checkpoint=DIR --text="The [MASK] is warm." [--text_pair=...]
    python -m keras_vitbert.predict --checkpoint=DIR --file=TABLE [--columns=A,B]
                                    [--format=table|json|csv] [--top_k=5] [--output=FILE]

Images and texts are classified; a masked-LM model fills in [MASK]. DIR is the folder of a run of
pretrain or finetune, a preset, an exported model, or a BERT or ViT of Hugging Face (also
hf://OWNER/NAME), keras-hub or Google. A table is a CSV, TSV, JSON-lines or Parquet file; the output
has one row for each of its rows. --format=json prints one object per line. If images of a folder
cannot be read, they are listed and left out, and the exit status is 2.
Exit status: 0 done, 2 bad flag, file or image.
"""

import contextlib
import itertools
import shutil
import sys

from keras_vitbert.trained.places import require_place
from keras_vitbert.trained.prediction_formats import FORMATS, as_text
from pipelines import images
from pipelines.command_line import load_tensorflow, quiet_loading, run, say
from pipelines.flags import define_flags, parse_flags
from pipelines.status import doing
from pipelines.tasks.tables import SUFFIXES

_PART = 2_048  # images
_SOURCES = ("image", "text", "file")


def main(argv):
    """Runs the command.

    Args:
        argv: list of str, without the program's name.

    Returns:
        int, how many predictions there are.
    """
    from absl import flags

    values = define_flags(
        ("checkpoint", None, "a run, an exported model, a preset, or a BERT or ViT, see above"),
        ("image", None, "an image file, or a folder: all images below it"),
        ("text", None, "a text, with [MASK] where a token is to be predicted"),
        ("text_pair", None, "the second text of a pair"),
        ("file", None, f"a table ({', '.join(SUFFIXES)}) with one or two columns of sentences"),
        (
            "columns",
            None,
            "their names, comma-separated (default: those of fine-tuning, or the usual ones)",
        ),
        ("top_k", 5, "how many classes or tokens to show", 1),
        ("batch", 32, "how many inputs are predicted at once", 1),
        ("output", None, "a file to write instead of printing"),
    )
    flags.DEFINE_enum("format", FORMATS[0], FORMATS, "of the output", flag_values=values)
    parse_flags(values, argv, __doc__, required=("checkpoint",))
    _check_flags(values)
    require_place(values.checkpoint)

    load_tensorflow()
    with quiet_loading():
        import tensorflow as tf

        from keras_vitbert.trained import prediction_inputs
        from keras_vitbert.trained.finding import columns_of
        from keras_vitbert.trained.predicting import choose, open_functions, predict
        from pipelines.files import check_output_file, written_whole

    if values.image is not None:
        items = prediction_inputs.image_items(values.image)
    elif values.text is not None:
        items = prediction_inputs.text_items(values.text, values.text_pair)
    else:
        columns = tuple(filter(None, (values.columns or "").split(",")))
        remembered = columns_of(values.checkpoint)
        items = prediction_inputs.table_items(values.file, columns, remembered)
    if values.output:
        inputs = [values.checkpoint, values.file]
        # A table may stand beside the images of a folder.
        if values.image and (
            not tf.io.gfile.isdir(values.image) or values.output.lower().endswith(images.SUFFIXES)
        ):
            inputs.append(values.image)
        check_output_file(values.output, inputs)
    with doing(f"opening {values.checkpoint}"):
        functions = open_functions(values.checkpoint, values.top_k)
    # Images are predicted in parts, as there may be a million of them.
    streams = values.image is not None and values.format != "table"
    items, size = iter(items), _PART if streams else None
    parts = iter(lambda: list(itertools.islice(items, size)), [])
    first = next(parts)
    signature = choose(functions, first, values.checkpoint)
    left_out = [] if values.image is not None and tf.io.gfile.isdir(values.image) else None
    count, width = 0, 0
    with contextlib.ExitStack() as stack:
        if values.output:
            file = stack.enter_context(written_whole(values.output))
        else:
            width = shutil.get_terminal_size((0, 0)).columns  # 0 without a terminal
        for part in itertools.chain([first], parts):
            told = len(left_out or ())
            with doing("predicting"):
                found = predict(
                    *(functions, signature, part, values.batch, values.top_k, left_out),
                    path=values.checkpoint,
                )
            for line in (left_out or ())[told:]:
                say(f"left out: {line}")
            if not found:
                continue
            text = as_text(found, values.format, width)
            if count and values.format == "csv":
                text = text.partition("\n")[2]  # the header was written before
            count += len(found)
            if values.output:
                file.write(text.encode())
            else:
                print(text, end="")
    if left_out:
        raise ValueError(
            f"{values.image}: {len(left_out):,} of {count + len(left_out):,} images cannot be "
            "predicted, see above; fix or remove them"
        )
    return count


def _check_flags(values):
    """Refuses flags that do not go together."""
    given = [name for name in _SOURCES if getattr(values, name) is not None]
    if len(given) != 1:
        what = " and ".join(f"--{name}" for name in given) or "nothing to predict"
        raise ValueError(f"{what} given; give one of --image, --text and --file")
    for flag, source in (("text_pair", "text"), ("columns", "file")):
        if getattr(values, flag) is not None and given != [source]:
            raise ValueError(f"--{flag} has no effect without --{source}; leave it out")


if __name__ == "__main__":
    sys.exit(run(main))

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
import os
import sys

from keras_vitbert.trained.places import require_place
from keras_vitbert.trained.prediction_formats import FORMATS, as_text
from pipelines import images
from pipelines.command_line import load_tensorflow, quiet_loading, run, say
from pipelines.flags import define_flags, parse_flags
from pipelines.status import doing
from pipelines.tasks.tables import SUFFIXES

_CHUNK = 2_048  # images


def main(argv: list[str]) -> int:
    """Runs the command, and returns how many predictions there are."""
    from absl import flags

    values = define_flags(
        ("checkpoint", None, "a run, an exported model, a preset, or a BERT or ViT, see above"),
        ("image", None, "an image file, or a folder: all images below it"),
        ("text", None, "a text, with [MASK] where a token is to be predicted"),
        ("text_pair", None, "the second text of a pair"),
        ("file", None, f"a table ({', '.join(SUFFIXES)}) with one or two columns of sentences"),
        ("columns", "", "their names, comma-separated (default: those of fine-tuning, or usual)"),
        ("top_k", 5, "how many classes or tokens to show", 1),
        ("batch", 32, "how many inputs are predicted at once", 1),
        ("output", None, "a file to write instead of printing"),
    )
    flags.DEFINE_enum("format", FORMATS[0], FORMATS, "of the output", flag_values=values)
    parse_flags(values, argv, __doc__ or "", required=("checkpoint",))
    given = [name for name in ("image", "text", "file") if getattr(values, name) is not None]
    if len(given) != 1:
        raise ValueError("give one of --image, --text and --file")
    for flag, source in (("text_pair", "text"), ("columns", "file")):
        if getattr(values, flag) and given != [source]:
            raise ValueError(f"--{flag} has no effect without --{source}; leave it out")
    if values.text is not None and os.path.isfile(values.text):
        raise ValueError(f"--text={values.text} is a file; read its texts with --file")
    require_place(values.checkpoint)

    load_tensorflow()
    with quiet_loading():
        import tensorflow as tf

        from keras_vitbert.trained import predicting
        from keras_vitbert.trained.finding import columns_of
        from pipelines.files import check_output_file, written_whole

    of_folder = values.image is not None and tf.io.gfile.isdir(values.image)
    if values.image is not None:
        items = predicting.image_items(values.image)
    elif values.text is not None:
        items = predicting.text_items(values.text, values.text_pair)
    else:
        columns = tuple(filter(None, values.columns.split(",")))
        items = predicting.table_items(values.file, columns, columns_of(values.checkpoint))
    if values.output:
        # A table may stand beside the images of a folder.
        beside = of_folder and not values.output.lower().endswith(images.SUFFIXES)
        inputs = [values.checkpoint, values.file, None if beside else values.image]
        check_output_file(values.output, inputs)
    with doing(f"opening {values.checkpoint}"):
        functions = predicting.open_functions(values.checkpoint, values.top_k)
    # Images are predicted in chunks, as there may be a million of them.
    items, size = iter(items), None if values.image is None or values.format == "table" else _CHUNK
    chunks = iter(lambda: list(itertools.islice(items, size)), [])
    first = next(chunks)
    signature = predicting.choose(functions, first, values.checkpoint)
    left_out, count = [] if of_folder else None, 0
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(written_whole(values.output)) if values.output else None
        for chunk in itertools.chain([first], chunks):
            said = len(left_out or ())
            with doing("predicting"):
                answers = predicting.predict(
                    *(functions, signature, chunk, values.batch, values.top_k, left_out),
                    path=values.checkpoint,
                )
            for line in (left_out or ())[said:]:
                say(f"left out: {line}")
            if not answers:
                continue
            text = as_text(answers, values.format)
            if count and values.format == "csv":
                text = text.partition("\n")[2]  # the header was written before
            count += len(answers)
            if file:
                file.write(text.encode())
            else:
                print(text, end="")
    if left_out:
        raise ValueError(
            f"{values.image}: {len(left_out):,} of {count + len(left_out):,} images cannot be "
            "predicted, see above; fix or remove them"
        )
    return count


if __name__ == "__main__":
    sys.exit(run(main))

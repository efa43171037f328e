"""Learns a WordPiece vocabulary from documents, and writes it as BERT's `vocab.txt`.

    python -m pipelines.vocabulary --documents='wiki-*' --output=vocab.txt [--size=30000] [--cased]

Documents are those of `pipelines.wikipedia` and `pipelines.books`, or files in the format of
Google's BERT. Only an evenly spread sample of a large corpus is read, the same one each time.
"""

import sys

from pipelines import command_line
from pipelines.flags import define_flags, parse_flags
from pipelines.prepare.jobs import SKIP_DAMAGED
from pipelines.text.wordpiece import MIN_SIZE


def main(argv):
    """The command, with its arguments without the program's name."""
    values = define_flags(
        ("documents", None, "Comma-separated patterns of document files."),
        ("output", None, "Output file, vocab.txt."),
        ("size", 30_000, "Tokens of the vocabulary.", MIN_SIZE),
        ("max_megabytes", 1000, "Text to read, evenly spread; 0 for all of it.", 0),
        SKIP_DAMAGED,
        ("cased", False, "Distinguish upper case from lower, and keep accents."),
        ("overwrite", False, "Replace an existing file."),
    )
    parse_flags(values, argv, __doc__, ("documents", "output"))
    command_line.load_tensorflow()
    import tensorflow as tf

    from pipelines.prepare import vocabulary

    if tf.io.gfile.exists(values.output) and not values.overwrite:
        raise ValueError(
            f"{values.output}: already exists, and data made with it depends on it; give another "
            "--output, or --overwrite"
        )
    vocabulary.learn(
        *(values.documents, values.output, values.size, values.max_megabytes * 10**6),
        *(not values.cased, values.skip_damaged),
    )


if __name__ == "__main__":
    sys.exit(command_line.run(main))

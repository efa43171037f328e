"""Learns a WordPiece vocabulary from documents, and writes it as BERT's `vocab.txt`.

    python -m pipelines.vocabulary --documents='wiki-*' --output=vocab.txt [--size=30000] [--cased]

Documents are those of `pipelines.wikipedia` and `pipelines.books`, or files in the format of
Google's BERT. Only an evenly spread sample of a large corpus is read, the same one each time.
"""

import sys
from collections.abc import Iterator

from pipelines import command_line
from pipelines.command_line import say
from pipelines.files import check_output_file
from pipelines.flags import define_flags, parse_flags
from pipelines.prepare.jobs import SKIP_DAMAGED
from pipelines.status import counted, doing
from pipelines.text import documents
from pipelines.text.wordpiece import MIN_SIZE, learn_vocabulary, write_vocabulary

_UNIT_BYTES = 1 << 20  # of the pieces that make up an evenly spread sample


def main(argv: list[str]) -> None:
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
    parse_flags(values, argv, str(__doc__), ("documents", "output"))
    command_line.load_tensorflow()
    import tensorflow as tf

    if tf.io.gfile.exists(values.output) and not values.overwrite:
        raise ValueError(
            f"{values.output}: already exists, and data made with it depends on it; give another "
            "--output, or --overwrite"
        )
    units = documents.find_units(values.documents, unit_bytes=_UNIT_BYTES)
    check_output_file(values.output, {part.file for unit in units for part in unit.parts})
    with doing("reading documents"):
        texts = _read(spread(units, values.max_megabytes * 10**6), values.skip_damaged)
        tokens = learn_vocabulary(texts, values.size, lower_case=not values.cased)
    write_vocabulary(values.output, tokens)
    few = f" (the text yields no more; {values.size:,} were requested)"
    say(f"vocabulary: {len(tokens):,} tokens{few * (len(tokens) < values.size)}")


def spread(units: tuple[documents.Unit, ...], max_bytes: int) -> tuple[documents.Unit, ...]:
    """An evenly spread sample of a corpus, of some bytes to within a unit; 0 for everything."""
    total = sum(part.stop - part.start for unit in units for part in unit.parts)
    if not max_bytes or max_bytes >= total:
        return units
    count = max(1, len(units) * max_bytes // total)
    return tuple(units[(2 * place + 1) * len(units) // (2 * count)] for place in range(count))


def _read(units: tuple[documents.Unit, ...], skip_damaged: int) -> Iterator[str]:
    """Yields the paragraphs of all units."""
    damaged = []
    for unit in counted(units, len(units), "part"):
        for document in documents.read_unit(unit, damaged):
            yield from document.paragraphs
        if len(damaged) > skip_damaged:
            raise ValueError(
                f"{damaged[-1]['file']}: the line at byte {damaged[-1]['record']} is damaged: "
                f"{damaged[-1]['reason']}; fix the file, or raise skip_damaged"
            )


if __name__ == "__main__":
    sys.exit(command_line.run(main))

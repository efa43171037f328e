"""Learns a WordPiece vocabulary from documents, and writes it as BERT's `vocab.txt`.

    python -m pipelines.vocabulary --documents='wiki-*' --output=vocab.txt [--size=30000] [--cased]

Documents are those of `pipelines.wikipedia` and `pipelines.books`, or files in the format of
Google's BERT. Only an evenly spread sample of a large corpus is read, the same one each time.
"""

import sys
import time

from pipelines import command_line, files
from pipelines.flags import define_flags, parse_flags
from pipelines.text import documents
from pipelines.text.wordpiece import MIN_SIZE, learn_vocabulary, write_vocabulary

_UNIT_BYTES = 1 << 20  # of the pieces that make up an evenly spread sample
_PROGRESS_SECONDS = 10


def spread(units: tuple[documents.Unit, ...], max_bytes: int) -> tuple[documents.Unit, ...]:
    """An evenly spread sample of a corpus, of some bytes to within a unit; 0 for everything."""
    total = sum(map(_bytes, units))
    if not max_bytes or max_bytes >= total:
        return units
    count = max(1, len(units) * max_bytes // total)
    return tuple(units[(2 * place + 1) * len(units) // (2 * count)] for place in range(count))


def _bytes(unit):
    return sum(part.stop - part.start for part in unit.parts)


def _read(units, max_bad_records):
    """Yields the paragraphs of all units, and shows progress."""
    damaged = []
    total, done = sum(map(_bytes, units)), 0
    started = shown = time.monotonic()
    for unit in units:
        for document in documents.read_unit(unit, damaged):
            yield from document.paragraphs
        if len(damaged) > max_bad_records:
            raise ValueError(
                f"{damaged[-1]['file']}: the line at byte {damaged[-1]['record']} is damaged: "
                f"{damaged[-1]['reason']}; fix the file, or raise --max_bad_records"
            )
        done += _bytes(unit)
        now = time.monotonic()
        if now - shown >= _PROGRESS_SECONDS or done == total:
            shown, rate = now, done / max(now - started, 1e-3)
            command_line.say(
                f"vocabulary: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB, {rate / 1e6:,.1f} MB a"
                f" second, {(total - done) / rate:,.0f} s left"
            )


def main(argv):
    """The command.

    Args:
        argv: list of str, without the program's name.
    """
    values = define_flags(
        ("documents", None, "Comma-separated patterns of document files."),
        ("output", None, "Output file, vocab.txt."),
        ("size", 30_000, "Tokens of the vocabulary.", MIN_SIZE),
        ("max_megabytes", 1000, "Text to read, evenly spread; 0 for all of it.", 0),
        ("max_bad_records", 0, "Damaged documents that may be left out.", 0),
        ("cased", False, "Distinguish upper case from lower, and keep accents."),
        ("overwrite", False, "Replace an existing file."),
    )
    parse_flags(values, argv, __doc__, ("documents", "output"))

    command_line.load_tensorflow()
    import tensorflow as tf

    if tf.io.gfile.exists(values.output) and not values.overwrite:
        raise ValueError(
            f"{values.output}: already exists, and data made with it depends on it; give another "
            "--output, or --overwrite"
        )
    units = documents.find_units(values.documents, unit_bytes=_UNIT_BYTES)
    read = {part.file for unit in units for part in unit.parts}
    files.check_output_file(values.output, read)
    started = time.monotonic()
    tokens = learn_vocabulary(
        _read(spread(units, values.max_megabytes * 10**6), values.max_bad_records),
        values.size,
        lower_case=not values.cased,
    )
    write_vocabulary(values.output, tokens)
    few = f" (the text yields no more; {values.size:,} were requested)"
    command_line.say(
        f"vocabulary: {len(tokens):,} tokens{few if len(tokens) < values.size else ''}, "
        f"{time.monotonic() - started:.1f} s"
    )


if __name__ == "__main__":
    sys.exit(command_line.run(main))

"""A WordPiece vocabulary from documents; see `pipelines.vocabulary`."""

import time

from pipelines.command_line import say
from pipelines.files import check_output_file
from pipelines.status import doing, duration
from pipelines.text import documents
from pipelines.text.wordpiece import learn_vocabulary, write_vocabulary

_UNIT_BYTES = 1 << 20  # of the pieces that make up an evenly spread sample


def spread(units: tuple[documents.Unit, ...], max_bytes: int) -> tuple[documents.Unit, ...]:
    """An evenly spread sample of a corpus, of some bytes to within a unit; 0 for everything."""
    total = sum(map(_bytes, units))
    if not max_bytes or max_bytes >= total:
        return units
    count = max(1, len(units) * max_bytes // total)
    return tuple(units[(2 * place + 1) * len(units) // (2 * count)] for place in range(count))


def _bytes(unit):
    return sum(part.stop - part.start for part in unit.parts)


def _read(units, skip_damaged):
    """Yields the paragraphs of all units, and shows progress."""
    damaged = []
    total = sum(map(_bytes, units))
    done, started = 0, time.monotonic()
    with doing("reading documents") as reach:
        for unit in units:
            for document in documents.read_unit(unit, damaged):
                yield from document.paragraphs
            if len(damaged) > skip_damaged:
                raise ValueError(
                    f"{damaged[-1]['file']}: the line at byte {damaged[-1]['record']} is damaged: "
                    f"{damaged[-1]['reason']}; fix the file, or raise skip_damaged"
                )
            done += _bytes(unit)
            left = duration((total - done) * (time.monotonic() - started) / done)
            reach(f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB, {left} left")


def learn(
    pattern: str, output: str, size: int, max_bytes: int, lower_case: bool, skip_damaged: int
) -> None:
    """Learns a vocabulary of some tokens from an evenly spread sample of documents; writes it."""
    units = documents.find_units(pattern, unit_bytes=_UNIT_BYTES)
    check_output_file(output, {part.file for unit in units for part in unit.parts})
    started = time.monotonic()
    texts = _read(spread(units, max_bytes), skip_damaged)
    tokens = learn_vocabulary(texts, size, lower_case=lower_case)
    write_vocabulary(output, tokens)
    few = f" (the text yields no more; {size:,} were requested)" * (len(tokens) < size)
    say(f"vocabulary: {len(tokens):,} tokens{few}, {time.monotonic() - started:.1f} s")

"""WordPiece vocabularies: learned from text, written as BERT's `vocab.txt`, read and told apart.

    python -m pipelines.vocabulary --documents='wiki-*' --output=vocab.txt [--size=30000] [--cased]

learns one from documents of `pipelines.wikipedia` and `pipelines.books`, or from files in the
format of Google's BERT. Of a large corpus it reads an evenly spread part, the same each time.

A vocabulary is a list of str: the position of a token is its id. Pieces that go on a word begin
with `##`. Vocabulary files of Google's BERT are read as they are.
"""

import collections
import hashlib
import math
import os
import sys
import time

from keras_vitbert import command_line
from keras_vitbert.command_line import UserError
from pipelines import documents, files
from pipelines.word_counts import count_words

PAD, UNKNOWN, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL_TOKENS = (PAD, UNKNOWN, CLS, SEP, MASK)  # ids 0 to 4 of every vocabulary learned here

MIN_SIZE = 100  # room for the special tokens and the commonest letters, each of them twice

_SLACK = 1.05  # so many times the tokens wanted may be learned, before the rarest are dropped
_WORDS_PER_TOKEN = 6  # the learner sees this many of the commonest words for each token wanted
_UNIT_BYTES = 1 << 20  # of the parts that an evenly spread selection is made of
_PROGRESS_SECONDS = 10


def learn_vocabulary(texts, size, lower_case=True):
    """Learns a WordPiece vocabulary with tensorflow-text's learner.

    The learner keeps each piece of a word that occurs more often than a threshold. We search the
    threshold ourselves, from above: the tool's own search over all words takes a minute for 2,000
    tokens, and may end above the size wanted. The same texts give the same tokens, in whatever
    order they come.

    Args:
        texts: iterable of str.
        size: int, the number of tokens wanted, at least `MIN_SIZE`. Fewer come out when the text
            has too few different words.
        lower_case: bool, also strips accents, as BERT's uncased models do.

    Returns:
        List of str, at most `size`: the special tokens, then single characters, then pieces from
        the most to the least common.

    Raises:
        UserError: `size` is too small, or there is no word in the texts.
    """
    if size < MIN_SIZE:
        raise UserError(f"a vocabulary of {size} tokens is too small; ask for {MIN_SIZE} or more")
    counts = count_words(texts, lower_case)
    if not counts:
        raise UserError("no words to learn a vocabulary from; give some text")
    # Ties are broken by the word, so that the order of the texts does not matter.
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    words = ranked[: _WORDS_PER_TOKEN * size]

    low, high = 1, words[0][1] + 1  # thresholds: `low` gives the most tokens, `high` the fewest
    tokens = _learn(words, size, low)
    most, fewest = len(tokens), MIN_SIZE
    tries = 0
    while most > _SLACK * size and high - low > 1:
        # The number of tokens falls about as a power of the threshold. Every third time the middle
        # is taken, in case it does not.
        tries += 1
        wanted = min(max((1 + _SLACK) / 2 * size, fewest), most)
        is_regular = tries % 3 and fewest < most
        part = math.log(most / wanted) / math.log(most / fewest) if is_regular else 0.5
        middle = min(max(round(low * (high / low) ** part), low + 1), high - 1)
        tried = _learn(words, size, middle)
        if len(tried) < size:
            high, fewest = middle, len(tried)
        else:
            low, most, tokens = middle, len(tried), tried
    return _trim(tokens, size)


def write_vocabulary(path, tokens):
    """Writes one token a line, BERT's `vocab.txt`.

    Args:
        path: str, local or `gs://`. Either the whole file appears there or none.
        tokens: list of str.
    """
    files.write_atomically(os.fspath(path), "".join(f"{token}\n" for token in tokens))


def read_vocabulary(path):
    """Reads a `vocab.txt`: this project's, or one of Google's BERT.

    Args:
        path: str, local or `gs://`.

    Returns:
        List of str.

    Raises:
        UserError: there is no such file, a token occurs twice, or a special token is missing.
    """
    import tensorflow as tf

    try:
        with tf.io.gfile.GFile(path) as stream:
            tokens = [line.rstrip("\r\n") for line in stream]
    except tf.errors.NotFoundError:
        raise UserError(
            f"{path}: no such vocabulary; python -m pipelines.vocabulary learns one"
        ) from None
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a vocabulary ({error})") from error
    twice = [token for token, count in collections.Counter(tokens).items() if count > 1]
    if twice:
        raise UserError(f"{path}: {twice[0]!r} is there twice; keep one line for each token")
    missing = [token for token in SPECIAL_TOKENS if token not in tokens]
    if missing:
        raise UserError(f"{path}: {' '.join(missing)} missing; take a vocabulary of BERT's kind")
    return tokens


def vocabulary_hash(tokens):
    """A fingerprint of a vocabulary: 64 hex digits. Other tokens or another order change it."""
    return hashlib.sha256("\n".join(tokens).encode()).hexdigest()


def _learn(words, size, threshold):
    """The tokens whose count reaches `threshold`: one pass of the learner, without its search."""
    from tensorflow_text.tools.wordpiece_vocab import wordpiece_tokenizer_learner_lib as learner

    return learner.learn(
        words,
        vocab_size=size,
        reserved_tokens=list(SPECIAL_TOKENS),
        lower_thresh=threshold,
        upper_thresh=threshold,
        # Each character costs two tokens, `x` and `##x`, and words with other characters are
        # [UNK]. English prose has some 80 that are common.
        max_unique_chars=min(1000, max(size // 20, min(100, size // 4))),
    )


def _trim(tokens, size):
    """Drops the least common pieces, which come last; never a character, which spells the rest."""
    excess = len(tokens) - size
    kept = []
    for token in reversed(tokens):
        is_piece = token not in SPECIAL_TOKENS and len(token.removeprefix("##")) > 1
        if excess > 0 and is_piece:
            excess -= 1
        else:
            kept.append(token)
    return kept[::-1]


def spread(units, max_bytes):
    """An evenly spread part of a corpus.

    Args:
        units: tuple of `documents.Unit`.
        max_bytes: int, how much is wanted, to within a unit; 0 for everything.

    Returns:
        Tuple of those units that are to be read, at least one.
    """
    total = sum(map(_bytes, units))
    if not max_bytes or max_bytes >= total:
        return units
    count = max(1, len(units) * max_bytes // total)
    return tuple(units[(2 * place + 1) * len(units) // (2 * count)] for place in range(count))


def _bytes(unit):
    return sum(part.stop - part.start for part in unit.parts)


def _read(units, max_bad_records):
    """Yields the paragraphs of all units, and shows how far it is."""
    damaged = []
    total, done = sum(map(_bytes, units)), 0
    started = shown = time.monotonic()
    for unit in units:
        for document in documents.read_unit(unit, damaged):
            yield from document.paragraphs
        if len(damaged) > max_bad_records:
            raise UserError(
                f"{damaged[-1]['file']}: the line at byte {damaged[-1]['record']} is damaged "
                f"({damaged[-1]['reason']}); mend the file, or raise --max_bad_records"
            )
        done += _bytes(unit)
        now = time.monotonic()
        if now - shown >= _PROGRESS_SECONDS or done == total:
            shown, rate = now, done / max(now - started, 1e-3)
            print(
                f"vocabulary: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB, {rate / 1e6:,.1f} MB a"
                f" second, {(total - done) / rate:,.0f} s left",
                file=sys.stderr,
                flush=True,
            )


def main(argv):
    """The command: learns a vocabulary from documents."""
    from absl import flags

    values = flags.FlagValues()
    for name, text in (
        ("documents", "Patterns of document files, separated by commas."),
        ("output", "The file that is written, vocab.txt."),
    ):
        flags.DEFINE_string(name, None, text, flag_values=values)
    for name, default, lowest, text in (
        ("size", 30_000, MIN_SIZE, "Tokens of the vocabulary."),
        ("max_megabytes", 1000, 0, "Read about so much text, evenly spread; 0 for all of it."),
        ("max_bad_records", 0, 0, "How many damaged documents may be left out."),
    ):
        flags.DEFINE_integer(name, default, text, lower_bound=lowest, flag_values=values)
    for name, text in (
        ("cased", "Tell upper case from lower, and keep accents."),
        ("overwrite", "Replace the file if it is there."),
    ):
        flags.DEFINE_boolean(name, False, text, flag_values=values)
    command_line.parse_flags(values, argv, __doc__)
    for name in ("documents", "output"):
        if not values[name].value:
            raise UserError(f"--{name} is missing; --help lists the flags")

    command_line.load_tensorflow()
    import tensorflow as tf

    if tf.io.gfile.exists(values.output) and not values.overwrite:
        raise UserError(
            f"--output={values.output}: is there already, and what was made with it needs it; "
            "give another name, or --overwrite"
        )
    units = documents.find_units(values.documents, unit_bytes=_UNIT_BYTES)
    files.make_folder(os.path.dirname(values.output) or ".", "output")
    started = time.monotonic()
    tokens = learn_vocabulary(
        _read(spread(units, values.max_megabytes * 10**6), values.max_bad_records),
        values.size,
        lower_case=not values.cased,
    )
    write_vocabulary(values.output, tokens)
    few = f" (the text has no more than that, {values.size:,} were wanted)"
    print(
        f"vocabulary: {len(tokens):,} tokens{few if len(tokens) < values.size else ''}, "
        f"{time.monotonic() - started:.1f} s",
        file=sys.stderr,
    )


if __name__ == "__main__":
    sys.exit(command_line.run(main))

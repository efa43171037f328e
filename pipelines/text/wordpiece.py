"""WordPiece vocabularies: learned from words, written as BERT's `vocab.txt`, read and hashed.

A vocabulary is a list of str: the position of a token is its id. Pieces that continue a word begin
with `##`. Vocabulary files of Google's BERT are read as they are.
"""

import collections
import hashlib
import math
import os

from pipelines import files
from pipelines.text import tf_text
from pipelines.text.word_counts import LEARNING, count_words

PAD, UNKNOWN, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL_TOKENS = (PAD, UNKNOWN, CLS, SEP, MASK)  # ids 0 to 4 of every vocabulary learned here

MIN_SIZE = 100  # room for the special tokens, and for the most common letters twice each

_LEARNER = "tensorflow_text.tools.wordpiece_vocab.wordpiece_tokenizer_learner_lib"

_SLACK = 1.05  # times the tokens wanted may be learned, before the rarest are dropped
_WORDS_PER_TOKEN = 6  # the learner sees this many of the most common words per token wanted


def learn_vocabulary(texts, size, lower_case=True):
    """Learns a WordPiece vocabulary with tensorflow-text's learner.

    The learner keeps each piece of a word that occurs more often than a threshold. We search for
    the threshold ourselves, from above: the tool's own search over all words takes a minute for
    2,000 tokens, and may end above the size wanted. The order of the texts does not matter.

    Args:
        texts: iterable of str.
        size: int, the number of tokens wanted, at least `MIN_SIZE`. Fewer come out when the text
            has too few distinct words.
        lower_case: bool, also strips accents, as BERT's uncased models do.

    Returns:
        List of str, at most `size`: the special tokens, then single characters, then pieces from
        the most to the least common.

    Raises:
        ValueError: `size` is too small, there is no word in the texts, or tensorflow-text is not
            installed.
    """
    if size < MIN_SIZE:
        raise ValueError(f"a vocabulary of {size} tokens is too small; ask for {MIN_SIZE} or more")
    counts = count_words(texts, lower_case)
    if not counts:
        raise ValueError("no words to learn a vocabulary from; give some text")
    # Ties are broken by the word, so that the order of the texts does not matter.
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    words = ranked[: _WORDS_PER_TOKEN * size]

    low, high = 1, words[0][1] + 1  # thresholds: `low` gives the most tokens, `high` the fewest
    tokens = _learn(words, size, low)
    most, fewest = len(tokens), MIN_SIZE
    tries = 0
    while most > _SLACK * size and high - low > 1:
        # The number of tokens falls roughly as a power of the threshold. Every third try takes the
        # middle, in case it does not.
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
    """Writes one token per line, as in BERT's `vocab.txt`.

    Args:
        path: str, local or `gs://`. The file appears whole or not at all.
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
        ValueError: there is no such file, a token occurs twice, or a special token is missing.
    """
    import tensorflow as tf

    try:
        files.require_end(path)
        with tf.io.gfile.GFile(path) as stream:
            tokens = [line.rstrip("\r\n") for line in stream]
    except tf.errors.NotFoundError:
        raise ValueError(
            f"{path}: no such vocabulary; python -m pipelines.vocabulary learns one"
        ) from None
    except (OSError, tf.errors.OpError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as a vocabulary ({error})") from error
    check_tokens(tokens, path)
    return tokens


def check_tokens(tokens, where):
    """Refuses tokens with which texts cannot be encoded.

    Args:
        tokens: list of str.
        where: str, where they come from, for messages.

    Raises:
        ValueError: a token occurs twice, or a special token is missing.
    """
    twice = [token for token, count in collections.Counter(tokens).items() if count > 1]
    if twice:
        raise ValueError(f"{where}: {twice[0]!r} occurs twice; keep one line for each token")
    missing = [token for token in SPECIAL_TOKENS if token not in tokens]
    if missing:
        raise ValueError(f"{where}: {' '.join(missing)} missing; take a vocabulary of BERT's kind")


def cased_token(vocabulary):
    """Finds a token in upper case, which shows that a vocabulary distinguishes case.

    Args:
        vocabulary: list of str.

    Returns:
        str, the first one, or None. Special tokens and others in brackets do not count.
    """
    # Either function may have made the tokens lower-case; they differ in a few letters.
    cased = (token for token in vocabulary if token not in (token.lower(), token.casefold()))
    return next((token for token in cased if not token.startswith("[")), None)


def vocabulary_hash(tokens):
    """The SHA-256 of a vocabulary. Other tokens or another order change it.

    Args:
        tokens: sequence of str.

    Returns:
        str, 64 hex digits.
    """
    return hashlib.sha256("\n".join(tokens).encode()).hexdigest()


def _learn(words, size, threshold):
    """The tokens whose count reaches `threshold`: one pass of the learner, without its search."""
    learner = tf_text.require(LEARNING, _LEARNER)
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

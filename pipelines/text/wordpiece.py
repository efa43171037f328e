"""WordPiece vocabularies: learned from words, written as BERT's `vocab.txt`, read and hashed.

A vocabulary is a list of str: the position of a token is its id. Pieces that continue a word begin
with `##`. Vocabulary files of Google's BERT are read as they are.
"""

import collections
import hashlib
import itertools
import math
from collections.abc import Iterable

from pipelines import files
from pipelines.text import tf_text

PAD, UNKNOWN, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL_TOKENS = (PAD, UNKNOWN, CLS, SEP, MASK)  # ids 0 to 4 of every vocabulary learned here
MASKED_RATIO = 0.15  # of the tokens; Devlin et al. 2019, section 3.1

MIN_SIZE = 100  # room for the special tokens, and for the most common letters twice each

_LEARNER = "tensorflow_text.tools.wordpiece_vocab.wordpiece_tokenizer_learner_lib"

LEARNING = "learning a vocabulary"

_TEXTS_PER_CALL = 512
_SPLITTER = "tensorflow_text.python.ops.bert_tokenizer"

_SLACK = 1.05  # times the tokens wanted may be learned, before the rarest are dropped
_WORDS_PER_TOKEN = 6  # the learner sees this many of the most common words per token wanted


def learn_vocabulary(texts: Iterable[str], size: int, lower_case: bool = True) -> list[str]:
    """Learns a WordPiece vocabulary of at most `size` tokens with tensorflow-text's learner.

    The special tokens come first, then single characters, then pieces from the most to the least
    common. The order of the texts does not matter. `lower_case` also strips accents.

    The learner keeps each piece of a word that occurs more often than a threshold. We search for
    the threshold ourselves, from above: the tool's own search over all words takes a minute for
    2,000 tokens, and may end above the size wanted.
    """
    counts = count_words(texts, lower_case)
    if not counts:
        raise ValueError("the texts hold no words to learn a vocabulary from")
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
        exponent = math.log(most / wanted) / math.log(most / fewest) if is_regular else 0.5
        middle = min(max(round(low * (high / low) ** exponent), low + 1), high - 1)
        tried = _learn(words, size, middle)
        if len(tried) < size:
            high, fewest = middle, len(tried)
        else:
            low, most, tokens = middle, len(tried), tried
    return _trim(tokens, size)


def count_words(texts: Iterable[str], lower_case: bool = True) -> collections.Counter[str]:
    """Counts words as BERT splits them: at spaces, and around each punctuation mark."""
    tokenizer = tf_text.require(LEARNING, _SPLITTER).BasicTokenizer(lower_case=lower_case)
    counts = collections.Counter()
    texts = iter(texts)
    while batch := list(itertools.islice(texts, _TEXTS_PER_CALL)):
        counts.update(tokenizer.tokenize(batch).flat_values.numpy().tolist())
    return collections.Counter({word.decode(): count for word, count in counts.items()})


def write_vocabulary(path: str, tokens: list[str]) -> None:
    """Writes one token per line, as in BERT's `vocab.txt`; whole or not at all."""
    files.write_atomically(path, "".join(f"{token}\n" for token in tokens))


def read_vocabulary(path: str) -> list[str]:
    """Reads a `vocab.txt`, local or `gs://`: this project's, or one of Google's BERT."""
    with files.reading(path) as (stream, _):
        content = stream.read()
    try:
        lines = content.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not valid UTF-8 ({error})") from error
    tokens = [line.rstrip("\r") for line in lines]
    check_tokens(tokens, path)
    return tokens


def check_tokens(tokens: list[str], where: str) -> None:
    """Refuses tokens with which texts cannot be encoded; `where` they come from is for messages."""
    twice = [token for token, count in collections.Counter(tokens).items() if count > 1]
    if twice:
        raise ValueError(f"{where}: {twice[0]!r} occurs twice")
    missing = [token for token in SPECIAL_TOKENS if token not in tokens]
    if missing:
        raise ValueError(f"{where}: {' '.join(missing)} missing")


def cased_token(vocabulary: Iterable[str]) -> str | None:
    """The first token in upper case, which shows that a vocabulary distinguishes case.

    Special tokens and others in brackets do not count.
    """
    # Either function may have made the tokens lower-case; they differ in a few letters.
    cased = (token for token in vocabulary if token not in (token.lower(), token.casefold()))
    return next((token for token in cased if not token.startswith("[")), None)


def vocabulary_hash(tokens: Iterable[str]) -> str:
    """The SHA-256 of a vocabulary, in hex digits. Other tokens or another order change it."""
    return hashlib.sha256("\n".join(tokens).encode()).hexdigest()


def _learn(words: list[tuple[str, int]], size: int, threshold: int) -> list[str]:
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


def _trim(tokens: list[str], size: int) -> list[str]:
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

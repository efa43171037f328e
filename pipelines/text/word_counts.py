"""Counts the words of any amount of text in bounded memory."""

import collections
import itertools
from collections.abc import Iterable

from pipelines.text import tf_text

MAX_WORDS = 2_000_000  # distinct ones in memory, some 300 MB

LEARNING = "learning a vocabulary"

_TEXTS_PER_CALL = 512
_SPLITTER = "tensorflow_text.python.ops.bert_tokenizer"


def count_words(
    texts: Iterable[str], lower_case: bool = True, max_words: int = MAX_WORDS
) -> collections.Counter[str]:
    """Counts words as BERT splits them: at spaces, and around each punctuation mark.

    Whenever there are more than `max_words` distinct words, the rarer ones are dropped: all counts
    are lowered by that of the most common word to be dropped, and words without a count are
    forgotten (Misra and Gries, 1982). So a count is never too high, and at most
    `N / (max_words // 2 + 1)` too low, where N is the number of all words. With fewer distinct
    words, the counts are exact and the order of the texts does not matter.

    Args:
        lower_case: also strips accents.
        max_words: 2 or more.

    Raises:
        ValueError: tensorflow-text is not installed.
    """
    tokenizer = tf_text.require(LEARNING, _SPLITTER).BasicTokenizer(lower_case=lower_case)
    counts = collections.Counter()
    texts = iter(texts)
    while batch := list(itertools.islice(texts, _TEXTS_PER_CALL)):
        counts.update(tokenizer.tokenize(batch).flat_values.numpy().tolist())
        if len(counts) > max_words:
            counts = _without_rare_words(counts, max_words // 2)
    return collections.Counter({word.decode(): count for word, count in counts.items()})


def _without_rare_words(counts, keep):
    """At most `keep` words, all counts lowered by that of the most common one left out."""
    lowered = sorted(counts.values(), reverse=True)[keep]
    return collections.Counter(
        {word: count - lowered for word, count in counts.items() if count > lowered}
    )

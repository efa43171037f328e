"""BERT's pairs of text segments: which sentences go together, and what is cut off.

Until it is laid out, a pair is kept as its places in the flat array of tokens. So a unit of
documents costs a few numbers for each pair, and all pairs can be shuffled before any is written.
"""

import bisect

import numpy as np

from pipelines.text.wordpiece import CLS, SEP

IS_NEXT, IS_RANDOM = 0, 1  # values of `next_sentence_labels`
SPECIALS_PER_EXAMPLE = 3  # [CLS] A [SEP] B [SEP]

# A pair: where its segments begin in the tokens, how many tokens they have (at least one), a label.
PAIR = np.dtype(
    [(name, np.int64) for name in ("first", "first_length", "second", "second_length", "label")]
)


def make_pairs(documents, room, short_probability, random):
    """Makes pairs in one pass over documents.

    Sentences of a document are gathered until they fill `room`, or a random shorter length. Then
    either they are divided between the two segments, or the first of them become the first segment,
    a piece of another document becomes the second, and the others are put back to be used again. A
    pair that is too long is cut, at the front and the end at random.

    With only one document there are no random segments: every pair is `IS_NEXT`, and a last
    sentence that is left alone is skipped.

    Args:
        documents: `tokenization.TokenizedDocuments`.
        room: int, the most tokens of both segments together, 2 or more.
        short_probability: float, how often a pair aims at a random shorter length.
        random: `numpy.random.Generator`.

    Returns:
        `(pairs,)` array of `PAIR`.
    """
    offsets, borders = documents.sentences.tolist(), documents.documents.tolist()
    # The random choices for a pair, by the sentence that it begins with.
    count = len(offsets) - 1
    is_short = random.random(count) < short_probability
    targets = np.where(is_short, random.integers(2, room + 1, count), room).tolist()
    labels = np.where(random.random(count) < 0.5, IS_RANDOM, IS_NEXT).tolist()
    middles = random.random(count).tolist()
    is_alone = len(documents) == 1
    rows = []  # document, first sentence, middle, end, target, label
    for document, last in enumerate(borders[1:]):
        start = borders[document]
        while start < last:
            target = targets[start]
            label = IS_NEXT if is_alone else labels[start]
            end = bisect.bisect_left(offsets, offsets[start] + target, start + 1, last)
            if label == IS_NEXT:
                end = min(max(end, start + 2), last)
            if end == start + 1:  # the document's last sentence has no next one
                if is_alone:
                    break
                label = IS_RANDOM
            # The first segment gets at least one sentence, and at most all but one.
            middle = start + 1 + int(middles[start] * (end - start - 1))
            rows.append((document, start, middle, end, target, label))
            start = middle if label == IS_RANDOM else end

    document, start, middle, end, target, label = np.array(rows, np.int64).reshape(-1, 6).T
    pairs = np.empty(len(rows), PAIR)
    pairs["first"], pairs["second"] = documents.sentences[start], documents.sentences[middle]
    pairs["first_length"] = pairs["second"] - pairs["first"]
    pairs["second_length"] = documents.sentences[end] - pairs["second"]
    pairs["label"] = label
    is_random = label == IS_RANDOM
    pairs["second"][is_random], pairs["second_length"][is_random] = _random_segments(
        documents, document[is_random], (target - pairs["first_length"])[is_random], random
    )
    return _truncate(pairs, room, random)


def _random_segments(documents, homes, lengths, random):
    """Whole sentences of random other documents, from a random one on: `lengths` tokens or more.

    Fewer if the other document ends first.
    """
    if not len(homes):
        return homes, homes
    others = random.integers(len(documents) - 1, size=len(homes))
    others += others >= homes
    begin, end = documents.documents[others], documents.documents[others + 1]
    sentence = begin + random.integers(end - begin)
    start = documents.sentences[sentence]
    stop = np.searchsorted(documents.sentences, start + np.maximum(lengths, 1))
    return start, documents.sentences[np.minimum(stop, end)] - start


def _truncate(pairs, room, random):
    """Shortens the longer segment, and then both, until they fit.

    Each token is removed from the front or the end at random, so that the segments do not always
    start with a sentence.
    """
    first, second = pairs["first_length"], pairs["second_length"]
    is_long = first + second > room
    kept = np.minimum(first, np.maximum(room - second, (room + 1) // 2))
    kept_first = np.where(is_long, kept, first)
    kept_second = np.where(is_long, room - kept, second)
    cut = pairs.copy()
    cut["first"] += random.binomial(first - kept_first, 0.5)
    cut["second"] += random.binomial(second - kept_second, 0.5)
    cut["first_length"], cut["second_length"] = kept_first, kept_second
    return cut


def lay_out(pairs, tokens, vocabulary, max_length):
    """Lays pairs out as `[CLS] A [SEP] B [SEP]`, padded with zeros.

    Args:
        pairs: array of a few hundred `PAIR`.
        tokens: int32 array, from `TokenizedDocuments`.
        vocabulary: sequence of str.
        max_length: int, tokens of an example.

    Returns:
        Dict of int32 arrays: `(pairs, max_length)` `input_ids`, `input_mask` and `segment_ids`,
        `(pairs, 1)` `next_sentence_labels`.
    """
    place = np.arange(max_length)
    pairs = pairs[:, None]
    middle = pairs["first_length"] + 1
    last = middle + pairs["second_length"] + 1
    in_first = (place >= 1) & (place < middle)
    in_second = (place > middle) & (place < last)
    source = np.where(
        in_first,
        pairs["first"] + place - 1,
        np.where(in_second, pairs["second"] + place - middle - 1, 0),
    )
    is_sep = (place == middle) | (place == last)
    special = np.where(is_sep, vocabulary.index(SEP), 0)
    input_ids = np.where(in_first | in_second, tokens[source], special)
    input_ids[:, 0] = vocabulary.index(CLS)
    fields = {
        "input_ids": input_ids,
        "input_mask": place <= last,
        "segment_ids": (place > middle) & (place <= last),
        "next_sentence_labels": pairs["label"],
    }
    return {name: values.astype(np.int32) for name, values in fields.items()}

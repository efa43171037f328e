"""BERT's pairs of text segments: which sentences go together, and what is cut off.

A pair is kept as four places in the flat array of tokens until it is laid out, so that a unit of
documents costs a few numbers for each pair, and all of them can be shuffled before any is written.
"""

import bisect
import dataclasses

import numpy as np

from pipelines.text.wordpiece import CLS, SEP

IS_NEXT, IS_RANDOM = 0, 1  # values of `next_sentence_labels`
SPECIALS_PER_EXAMPLE = 3  # [CLS] A [SEP] B [SEP]


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs of segments, each array `(count,)` of int64.

    Attributes:
        first, second: where the segments begin in the tokens.
        first_length, second_length: their tokens, at least one.
        labels: `IS_NEXT` or `IS_RANDOM`.
    """

    first: np.ndarray
    first_length: np.ndarray
    second: np.ndarray
    second_length: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, places):
        return Pairs(*(column[places] for column in self._columns()))

    @classmethod
    def join(cls, parts):
        """All pairs of a list of `Pairs`."""
        return cls(*map(np.concatenate, zip(*(part._columns() for part in parts), strict=True)))

    def _columns(self):
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self))


def make_pairs(documents, room, short_probability, random) -> Pairs:
    """One pass over documents.

    Sentences of a document are gathered until they fill `room`, or a random shorter length. Then
    they are divided between the two segments; or the first of them become the first segment, a
    piece of another document the second, and the others are put back to be used again. What is
    too long is cut, at the front and the end by chance.

    Where there is only one document there are no random segments: every pair is `IS_NEXT`, and a
    last sentence that is left alone is passed over.

    Args:
        documents: `tokenization.TokenizedDocuments`.
        room: int, tokens of both segments together at most, 2 or more.
        short_probability: float, how often a pair aims at a random shorter length.
        random: `numpy.random.Generator`.
    """
    offsets, borders = documents.sentences.tolist(), documents.documents.tolist()
    chances = _Chances(random, len(offsets) - 1, room, short_probability)
    is_alone = len(documents) == 1
    rows = []  # document, first sentence, middle, end, target, label
    for document, last in enumerate(borders[1:]):
        start = borders[document]
        while start < last:
            target = chances.target[start]
            label = IS_NEXT if is_alone else chances.label[start]
            end = bisect.bisect_left(offsets, offsets[start] + target, start + 1, last)
            if label == IS_NEXT:
                end = min(max(end, start + 2), last)
            if end == start + 1:  # the document's last sentence has no next one
                if is_alone:
                    break
                label = IS_RANDOM
            # All but one sentence may go into the first segment, and one at least.
            middle = start + 1 + int(chances.middle[start] * (end - start - 1))
            rows.append((document, start, middle, end, target, label))
            start = middle if label == IS_RANDOM else end

    document, start, middle, end, target, labels = np.array(rows, np.int64).reshape(-1, 6).T
    first, second = documents.sentences[start], documents.sentences[middle]
    first_length, second_length = second - first, documents.sentences[end] - second
    is_random = labels == IS_RANDOM
    second[is_random], second_length[is_random] = _random_segments(
        documents, document[is_random], (target - first_length)[is_random], random
    )
    return _truncate(Pairs(first, first_length, second, second_length, labels), room, random)


class _Chances:
    """Lists of what is random about a pair, by the sentence that it begins with."""

    def __init__(self, random, count, room, short_probability):
        is_short = random.random(count) < short_probability
        self.target = np.where(is_short, random.integers(2, room + 1, count), room).tolist()
        self.label = np.where(random.random(count) < 0.5, IS_RANDOM, IS_NEXT).tolist()
        self.middle = random.random(count).tolist()


def _random_segments(documents, homes, lengths, random):
    """Whole sentences of random other documents, from random ones on: `lengths` tokens or more.

    Fewer where the other document ends.
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

    Each token is taken from the front or the end at random, so that the segments do not always
    start with a sentence.
    """
    is_long = pairs.first_length + pairs.second_length > room
    kept = np.minimum(pairs.first_length, np.maximum(room - pairs.second_length, (room + 1) // 2))
    kept_first = np.where(is_long, kept, pairs.first_length)
    kept_second = np.where(is_long, room - kept, pairs.second_length)
    return Pairs(
        pairs.first + random.binomial(pairs.first_length - kept_first, 0.5),
        kept_first,
        pairs.second + random.binomial(pairs.second_length - kept_second, 0.5),
        kept_second,
        pairs.labels,
    )


class Layout:
    """Lays pairs out as `[CLS] A [SEP] B [SEP]`, padded with zeros.

    Args:
        vocabulary: list of str.
        max_length: int, tokens of an example.
    """

    def __init__(self, vocabulary, max_length):
        self._cls, self._sep = vocabulary.index(CLS), vocabulary.index(SEP)
        self._max_length = max_length

    def __call__(self, tokens, pairs):
        """The fields of examples without masks.

        Args:
            tokens: int32 array, of `TokenizedDocuments`.
            pairs: `Pairs`, of a few hundred examples: the arrays here are `(count, max_length)`.

        Returns:
            Dict of int32 arrays, `(count, max_length)`: `input_ids`, `input_mask` and
            `segment_ids`; `(count, 1)`: `next_sentence_labels`. And a bool array
            `(count, max_length)`, true for the tokens of A and B.
        """
        place = np.arange(self._max_length)
        first, middle = pairs.first_length[:, None], pairs.first_length[:, None] + 1
        last = middle + pairs.second_length[:, None] + 1
        in_first = (place >= 1) & (place <= first)
        in_second = (place > middle) & (place < last)
        source = np.where(
            in_first,
            pairs.first[:, None] + place - 1,
            np.where(in_second, pairs.second[:, None] + place - middle - 1, 0),
        )
        input_ids = tokens[source]
        is_sep = (place == middle) | (place == last)
        input_ids = np.where(in_first | in_second, input_ids, np.where(is_sep, self._sep, 0))
        input_ids[:, 0] = self._cls
        fields = {
            "input_ids": input_ids.astype(np.int32),
            "input_mask": (place <= last).astype(np.int32),
            "segment_ids": ((place > middle) & (place <= last)).astype(np.int32),
            "next_sentence_labels": pairs.labels[:, None].astype(np.int32),
        }
        return fields, in_first | in_second

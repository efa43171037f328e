"""BERT's pre-training examples: pairs of text segments, 15 % of their tokens masked.

The recipe is that of BERT (Devlin et al., 2019, section 3.1 and appendix A.2). The field names and
the label (1 = the second segment is random) are those of Google's `create_pretraining_data.py`.
Four choices are ours. The shorter length is drawn for each pair, not once for each document.
Whether the second segment is random is drawn first, and any other pair takes at least two
sentences, so half of the pairs are random, however long the sentences are. A random second segment
always comes from another document. That document belongs to the same unit, whose documents are in
memory together.

A unit's examples depend on its documents, the settings and random numbers keyed by (seed, unit,
pass over it), so units can be processed in any order and anywhere.

Until it is laid out, a pair is kept as its places in the flat array of tokens. So a unit of
documents costs a few numbers for each pair, and all pairs can be shuffled before any is written.

A serialized `tf.train.Example` is a map of names to lists of numbers in the wire format of protocol
buffers: every part is a tag, its length and its bytes. An integer is a varint: seven bits per byte,
the lowest first, with the eighth bit set in all bytes but the last. `encode_examples` encodes all
numbers of a field at once, several times as fast as one by one.
"""

import bisect
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.text.wordpiece import CLS, MASKED_RATIO, SEP

if TYPE_CHECKING:
    from pipelines.text.tokenization import TokenizedDocuments

IS_NEXT, IS_RANDOM = 0, 1  # values of `next_sentence_labels`
SPECIALS_PER_EXAMPLE = 3  # [CLS] A [SEP] B [SEP]
SHORT_SEQUENCE_PROBABILITY = 0.1  # appendix A.2
MIN_LENGTH = SPECIALS_PER_EXAMPLE + 2
MAX_LENGTH = 1 << 20  # examples are padded to this length, in memory

_EXAMPLES_PER_CALL = 256  # a few MiB of arrays; part of the format, as masks are drawn per call
_PAIRS, _ORDER_AND_MASKS = 0, 1  # keys of random numbers

# A pair: where its segments begin in the tokens, how many tokens they have (at least one), a label.
PAIR = np.dtype(
    [(name, np.int64) for name in ("first", "first_length", "second", "second_length", "label")]
)

# Tags: the number of the field, and 2 for a part with a length.
_FIRST, _SECOND, _THIRD = (bytes([number << 3 | 2]) for number in (1, 2, 3))


@dataclasses.dataclass(frozen=True)
class ExampleSettings:
    """What determines examples besides documents and vocabulary."""

    max_length: int  # tokens of an example with its three special ones
    max_predictions: int
    seed: int
    duplication: int = 1  # passes over the documents, each with other pairs and masks
    masked_ratio: float = MASKED_RATIO
    short_sequence_probability: float = SHORT_SEQUENCE_PROBABILITY
    whole_word: bool = False  # the pieces of a word are masked together
    dynamic: bool = False  # masks are left to the reader


def make_examples(
    documents: "TokenizedDocuments",
    vocabulary: Sequence[str],
    settings: ExampleSettings,
    unit: int = 0,
    shuffle: bool = False,
) -> Iterator[dict[str, np.ndarray]]:
    """Makes the examples of a unit of documents.

    Args:
        unit: the index of this unit among all units: the key of the random numbers.
        shuffle: if False, examples come pass after pass and document after document.

    Yields:
        The fields of a few hundred examples. `(count, max_length)` int32: `input_ids`,
        `input_mask` (0 for padding), `segment_ids` (1 from the first [SEP] up to the second).
        `(count, max_predictions)`: `masked_lm_positions` (int32, ascending), `masked_lm_ids`
        (int32, the tokens before masking), `masked_lm_weights` (float32, 0 for padding).
        `(count, 1)` int32: `next_sentence_labels`.
        With `settings.dynamic` there are no `masked_lm` fields and nothing is masked.
    """
    from pipelines.text.masking import Masking  # slow to load: it needs TensorFlow

    if not len(documents):
        return
    pairs = np.concatenate(
        [
            make_pairs(
                documents,
                settings.max_length - SPECIALS_PER_EXAMPLE,
                settings.short_sequence_probability,
                np.random.default_rng((settings.seed, unit, _PAIRS, turn)),
            )
            for turn in range(settings.duplication)
        ]
    )
    random = np.random.default_rng((settings.seed, unit, _ORDER_AND_MASKS, 0))
    if shuffle:
        pairs = pairs[random.permutation(len(pairs))]
    masking = Masking(
        tuple(vocabulary), settings.max_predictions, settings.masked_ratio, settings.whole_word
    )
    for start in range(0, len(pairs), _EXAMPLES_PER_CALL):
        chosen = pairs[start : start + _EXAMPLES_PER_CALL]
        fields = lay_out(chosen, documents.tokens, vocabulary, settings.max_length)
        if not settings.dynamic:
            fields |= masking.static(fields["input_ids"], fields["input_mask"], random)
        yield fields


def make_pairs(
    documents: "TokenizedDocuments",
    room: int,
    short_probability: float,
    random: np.random.Generator,
) -> np.ndarray:
    """Makes pairs in one pass over documents.

    Sentences of a document are gathered until they fill `room`, or a random shorter length. Then
    either they are divided between the two segments, or the first of them become the first segment,
    a piece of another document becomes the second, and the others are put back to be used again. A
    pair that is too long is cut, at the front and the end at random.

    With only one document there are no random segments: every pair is `IS_NEXT`, and a last
    sentence that is left alone is skipped.
    Returns an array of `PAIR`.
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


def _random_segments(
    documents: "TokenizedDocuments",
    homes: np.ndarray,
    lengths: np.ndarray,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
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


def _truncate(pairs: np.ndarray, room: int, random: np.random.Generator) -> np.ndarray:
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


def lay_out(
    pairs: np.ndarray, tokens: np.ndarray, vocabulary: Sequence[str], max_length: int
) -> dict[str, np.ndarray]:
    """Lays pairs out as `[CLS] A [SEP] B [SEP]`, padded with zeros, in int32.

    `(pairs, max_length)` `input_ids`, `input_mask`, `segment_ids`; `(pairs, 1)`
    `next_sentence_labels`.
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


def encode_examples(fields: dict[str, np.ndarray]) -> list[bytes]:
    """Serializes examples, each to what `shard_files.to_example` makes of its rows.

    Fields are arrays `(count, values)` of int32, none of them negative, or of float32, with at
    least one value. No name is the beginning of another.
    """
    columns = []
    for name in sorted(fields):  # as protocol buffers write a map deterministically
        values = fields[name]
        if values.dtype == np.float32:
            kind, packed = _SECOND, _fixed(values.astype("<f4"))
        else:
            kind, packed = _THIRD, _varints(values.astype(np.int32, casting="safe", copy=False))
        columns.append([_head(name, kind, len(row)) for row in packed])
        columns.append(packed)
    examples = list(map(b"".join, zip(*columns, strict=True)))
    sizes = _varints(np.array([len(features) for features in examples], np.int32)[:, None])
    return [_FIRST + size + features for size, features in zip(sizes, examples, strict=True)]


@functools.lru_cache(maxsize=1 << 16)
def _head(name: str, kind: bytes, size: int) -> bytes:
    """What precedes the `size` bytes of a list, which is nested five messages deep."""
    key = _FIRST + _varint(len(name.encode())) + name.encode()
    head, size = _around(b"", size, _FIRST)  # the list of packed numbers
    head, size = _around(head, size, kind)  # the feature
    head, size = _around(head, size, _SECOND)  # the value of the map's entry
    return _around(key + head, size + len(key), _FIRST)[0]  # the entry


def _around(head: bytes, size: int, tag: bytes) -> tuple[bytes, int]:
    """Encloses a part of `size` bytes and its head in another; returns that one's head and size."""
    outer = tag + _varint(size)
    return outer + head, size + len(outer)


def _varint(number: int) -> bytes:
    return _varints(np.array([[number]], np.int32))[0]


def _fixed(values: np.ndarray) -> list[bytes]:
    """The bytes of each row of an array."""
    data, size = values.tobytes(), values.shape[1] * values.itemsize
    return [data[start : start + size] for start in range(0, len(data), size)]


def _varints(values: np.ndarray) -> list[bytes]:
    """The varints of each row of an array of int32."""
    if values.min(initial=0) < 0:
        raise ValueError("a negative integer")
    largest = int(values.max(initial=0))
    if largest < 128:
        return _fixed(values.astype(np.uint8))
    most = -(-largest.bit_length() // 7)
    pieces = np.empty((*values.shape, most), np.uint8)
    is_used = np.empty(pieces.shape, bool)
    for place in range(most):
        rest = values >> 7 * place
        pieces[..., place] = rest & 127 | (rest > 127) << 7
        is_used[..., place] = rest > 0 if place else True
    data = pieces[is_used].tobytes()
    borders = np.cumsum(is_used.sum(axis=(1, 2))).tolist()
    return [data[start:stop] for start, stop in zip([0, *borders], borders, strict=False)]

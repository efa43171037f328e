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
"""

from collections.abc import Iterator

import numpy as np

from pipelines.text.masking import Masking
from pipelines.text.pairs import SPECIALS_PER_EXAMPLE, lay_out, make_pairs

_EXAMPLES_PER_CALL = 256  # a few MiB of arrays; part of the format, as masks are drawn per call
_PAIRS, _ORDER_AND_MASKS = 0, 1  # keys of random numbers


def make_examples(documents, vocabulary, settings, unit=0, shuffle=False) -> Iterator[dict]:
    """Makes the examples of a unit of documents.

    Args:
        documents: `TokenizedDocuments`.
        vocabulary: sequence of str.
        settings: `ExampleSettings`.
        unit: int, the index of this unit among all units: the key of the random numbers.
        shuffle: bool; if False, examples come pass after pass and document after document.

    Yields:
        The fields of a few hundred examples, dict of arrays. `(count, max_length)` int32:
        `input_ids`, `input_mask` (1 for a token, 0 for padding) and `segment_ids` (0 up to the
        first [SEP], 1 up to the second). `(count, max_predictions)`: `masked_lm_positions` (int32,
        ascending), `masked_lm_ids` (int32, the tokens before masking) and `masked_lm_weights`
        (float32, 1 for a prediction, 0 for padding). `(count, 1)` int32: `next_sentence_labels`.
        With `settings.dynamic` there are no `masked_lm` fields and nothing is masked.
    """
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

"""Two masked words of the validation texts, with a model's guesses, for a reader."""

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_vitbert.model.pretraining_network import text_inputs
from keras_vitbert.model.tensors import Tensor, ops
from keras_vitbert.model.whole_batches import on_whole_batches
from keras_vitbert.training.joint_trainer import JointTrainer
from pipelines.joint_stream import JointStream
from pipelines.text.wordpiece import CLS, MASK, PAD, SEP

_BATCHES = 20
_AROUND = 10  # tokens shown on either side
_GUESSES = 3
_OTHER_MASK = "___"


def guess_masked_words(
    trainer: JointTrainer, stream: JointStream, vocabulary: list[str]
) -> list[dict[str, Any]]:
    """The longest masked word that a model guesses right, and the first that it does not.

    Of the first validation batches; all workers call it. Dicts of `text`, with `[MASK]` in the
    place of the word, `answer`, and `guesses`, the likeliest tokens first.
    """
    network, strategy = trainer.network, trainer.distribute_strategy

    def guess(batch: dict) -> dict[str, Tensor]:
        logits = network(text_inputs(batch), training=False)["mlm_logits"]
        names = ("token_ids", "masked_positions", "masked_ids", "masked_weights")
        # A network may have room for more tokens than the vocabulary has.
        _, guesses = ops.top_k(logits[..., : len(vocabulary)], _GUESSES)
        return {**{name: batch[name] for name in names}, "guesses": guesses}

    on_batch = on_whole_batches(guess, network, strategy)
    batches = strategy.distribute_datasets_from_function(stream.validation)
    count = min(_BATCHES, stream.validation_batches)
    words = [
        word
        for batch in itertools.islice(batches, count)
        for word in _whole_words(on_batch(batch), vocabulary)
    ]
    right = [word for word in words if word["guesses"][0] == word["answer"]]
    wrong = [word for word in words if word["guesses"][0] != word["answer"]]
    return [*sorted(right, key=lambda word: -len(word["answer"]))[:1], *wrong[:1]]


def _whole_words(batch: dict[str, np.ndarray], vocabulary: list[str]) -> Iterable[dict[str, Any]]:
    """The masked words that are one token, in the order of the texts."""
    rows = zip(*(batch[name] for name in sorted(batch)), strict=True)
    for guesses, ids, positions, weights, token_ids in rows:
        tokens = [vocabulary[token] for token in token_ids]
        for place, answer, weight, likeliest in zip(positions, ids, weights, guesses, strict=True):
            word = vocabulary[answer]
            is_whole = word.isalnum() and not tokens[place + 1].startswith("##")
            if weight and is_whole and tokens[place] == MASK:
                yield {
                    "text": _around(tokens, place),
                    "answer": word,
                    "guesses": [vocabulary[token] for token in likeliest],
                }


def _around(tokens: list[str], place: int) -> str:
    """The words on both sides of a masked token, within its segment."""
    before, after = tokens[max(place - _AROUND, 0) : place], tokens[place + 1 :][:_AROUND]
    marks = {PAD, CLS, SEP}
    while marks.intersection(before) or before[:1] and before[0].startswith("##"):
        before = before[1:]
    after = after[: next((k for k, token in enumerate(after) if token in marks), len(after))]
    others = [_OTHER_MASK if token == MASK else token for token in (*before, MASK, *after)]
    others[len(before)] = MASK
    return " ".join(others).replace(" ##", "")

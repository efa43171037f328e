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
_FIELDS = ("token_ids", "masked_positions", "masked_ids", "masked_weights")


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
        _, guesses = ops.top_k(logits[..., : len(vocabulary)], _GUESSES)
        return {**{name: batch[name] for name in _FIELDS}, "guesses": guesses}

    # A network may have room for more tokens than the vocabulary has, and texts may use them.
    size = network.backbone.vocabulary_size or 0
    names = [*vocabulary, *(f"[{token}]" for token in range(len(vocabulary), size))]
    on_batch = on_whole_batches(guess, network, strategy)
    batches = strategy.distribute_datasets_from_function(stream.validation)
    count = min(_BATCHES, stream.validation_batches)
    words = [
        word
        for batch in itertools.islice(batches, count)
        for word in _whole_words(on_batch(batch), names)
    ]
    right = [word for word in words if word["guesses"][0] == word["answer"]]
    wrong = [word for word in words if word["guesses"][0] != word["answer"]]
    return [*sorted(right, key=lambda word: -len(word["answer"]))[:1], *wrong[:1]]


def _whole_words(batch: dict[str, np.ndarray], vocabulary: list[str]) -> Iterable[dict[str, Any]]:
    """The masked words that are one token, in the order of the texts."""
    rows = zip(*(batch[name] for name in (*_FIELDS, "guesses")), strict=True)
    for token_ids, positions, ids, weights, guesses in rows:
        tokens = [vocabulary[token] for token in token_ids]
        for place, answer, weight, likeliest in zip(positions, ids, weights, guesses, strict=True):
            word = vocabulary[answer]
            follows = "".join(tokens[place + 1 : place + 2])  # nothing, in a text without a [SEP]
            is_whole = word.isalnum() and not follows.startswith("##")
            if weight and is_whole and tokens[place] == MASK:
                yield {
                    "text": _around(tokens, place),
                    "answer": word,
                    "guesses": [vocabulary[token] for token in likeliest],
                }


def _around(tokens: list[str], place: int) -> str:
    """A masked token and the words on both sides of it, within its segment."""
    before = _beside(reversed(tokens[:place]))[::-1]
    while before and before[0].startswith("##"):  # the rest of a word that begins outside
        before = before[1:]
    return " ".join([*before, MASK, *_beside(tokens[place + 1 :])]).replace(" ##", "")


def _beside(tokens: Iterable[str]) -> list[str]:
    """The first tokens, until the segment ends."""
    inside = itertools.takewhile(lambda token: token not in (CLS, SEP, PAD), tokens)
    return [_OTHER_MASK if token == MASK else token for token in itertools.islice(inside, _AROUND)]

"""Fine-tuning on sentences: ours beside one length for all, and beside transformers' `Trainer`.

    python -m benchmarks.fine_tuning_peer [--size=mini] [--batch=32] [--steps=30] [--rounds=5]
                                          [--tsv=FILE] [--max_length=128]

All sides train a classifier of the same size from random weights on the same sentences, in turns:

    ours     batches of about equally long sentences, padded to a bucket of 32, 64 or 128 tokens
    padded   the same with every batch padded to --max_length
    trainer  `transformers.Trainer` with `DataCollatorWithPadding`: random batches, padded to their
             longest sentence; it needs the extra `parity`

The recipe is ours: AdamW, clip 1, dropout 0.1, float32. A round trains each side for --steps steps;
examples a second are counted from the end of the first step to that of the last.

Sentences are cut from the sample's Wikipedia articles, with the lengths of SST-2's, or are the
first column of --tsv=FILE, which has a header.
"""

import argparse
import logging
import re
import statistics
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf

from benchmarks.speed_table import Row
from keras_vitbert.configs import fine_tuning
from keras_vitbert.configs.devices import Devices
from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.model import SIZES
from keras_vitbert.fine_tuning.pretrained import RANDOM, Pretrained
from keras_vitbert.fine_tuning.recommended import with_intervals
from keras_vitbert.fine_tuning.trainer import build_fine_tuner
from keras_vitbert.fine_tuning.trials import TaskStream
from keras_vitbert.runs.loop import fit
from keras_vitbert.runs.run import Run
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.runs.workers import Workers
from pipelines import package_data
from pipelines.prepare import sample, wikipedia
from pipelines.tasks.labelled_texts import LabelledTexts
from pipelines.text.wordpiece import learn_vocabulary

OURS, PADDED, TRAINER = "ours", "padded", "trainer"
MINI = {"num_layers": 4, "num_heads": 4, "hidden_dim": 256, "intermediate_dim": 1024}
VOCABULARY = 30_000

# Words and punctuation marks per sentence, from the shortest to the longest, at every tenth of the
# 6,920 training sentences of SST-2 (Socher et al. 2013; two classes, whole sentences).
_LENGTHS = (2, 8, 12, 15, 17, 20, 23, 26, 30, 35, 64)
_WORD = re.compile(r"\w+|[^\w\s]")


def sentences_like_sst2(texts, count, seed=0):
    """Pieces of texts with the lengths of SST-2's sentences.

    Args:
        texts: sequence of str.
        count: int.
        seed: int.

    Returns:
        list of str.
    """
    words = [word for text in texts for word in _WORD.findall(text)]
    random = np.random.default_rng(seed)
    places = np.linspace(0, 1, len(_LENGTHS))
    lengths = np.interp(random.random(count), places, _LENGTHS).round().astype(int)
    begins = random.integers(len(words) - max(_LENGTHS), size=count)
    return [" ".join(words[b : b + n]) for b, n in zip(begins, lengths, strict=True)]


def _texts_and_sentences(tsv, count):
    """What the vocabulary is learned from, and `count` sentences; a shorter table is repeated."""
    if tsv:
        with open(tsv, encoding="utf-8") as file:
            texts = [line.rstrip("\n").split("\t")[0] for line in file][1:]
        return texts, [texts[number % len(texts)] for number in range(count)]
    path = package_data.find_package_file(*sample.WIKIPEDIA_FILE)
    texts = [text for document in wikipedia.read_documents(path) for text in document.paragraphs]
    return texts, sentences_like_sst2(texts, count)


class _Clock(keras.callbacks.Callback):
    """The steps done, and when: list of (int, seconds)."""

    def __init__(self):
        super().__init__()
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        self.ends.append((self.model.step, time.perf_counter()))


def _rate(ends, batch):
    """Examples a second between the end of the first step and that of the last."""
    (first, began), *_, (last, ended) = ends
    return batch * (last - first) / (ended - began)


class _Ours:
    """Our side, as `finetune` does it, on texts padded to given lengths."""

    def __init__(self, texts, size, vocabulary, batch, steps, rounds):
        self._texts = texts
        model = load_config("paper:sample").with_sizes().model.to_dict()
        model |= {**size, "vocabulary_size": len(vocabulary), "attention_dropout": -1.0}
        model["max_sequence_length"] = texts.buckets[-1]
        pretrained = Pretrained(RANDOM, "", 0, "", model, None, vocabulary, "lower")
        values = {"dtype": "float32", "batch": batch, "steps": steps * rounds}
        values |= {"steps_per_epoch": steps, "evaluation_interval": 0}
        config = fine_tuning.get_config("texts", "text").with_values(values)
        config = with_intervals(config.for_devices(Devices()), texts.count, 0)
        strategy = tf.distribute.get_strategy()
        self._trainer, _ = build_fine_tuner(config, pretrained, 2, 0, strategy)
        config = config.with_values({"steps": steps})  # of a round
        self._config, self._strategy = config, strategy
        self.parameters = self._trainer.network.count_params()

    def round(self, number):
        """Trains for a round; returns examples a second."""
        config, clock = self._config, _Clock()
        stream = TaskStream(self._texts, number, config.steps, config.batch)
        self._trainer.step = 0
        with tempfile.TemporaryDirectory() as path:
            folder = RunFolder(path, True)
            tf.io.gfile.makedirs(folder.checkpoints)
            run = Run(config, folder, Workers(self._strategy), self._strategy, None)
            fit(run, self._trainer, stream, [clock])
        return _rate(clock.ends, config.batch)


class _Trainer:
    """Transformers' side."""

    def __init__(self, texts, size, vocabulary, batch, steps):
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        self._transformers, self._steps, self._batch = transformers, steps, batch
        longest = texts.buckets[-1]
        self._tokenizer = transformers.BertTokenizerFast(
            vocab={token: number for number, token in enumerate(vocabulary)}
        )
        # Our tokens: the tokenizers differ in a few characters.
        parts = np.split(texts.tokens, texts.starts[1:-1])
        self._rows = [
            {
                "input_ids": ids.tolist(),
                "token_type_ids": [0] * len(ids),
                "attention_mask": [1] * len(ids),
                "labels": int(label),
            }
            for ids, label in zip(parts, texts.labels, strict=True)
        ]
        torch.manual_seed(0)
        self._model = transformers.BertForSequenceClassification(
            transformers.BertConfig(
                vocab_size=len(vocabulary),
                hidden_size=size["hidden_dim"],
                num_hidden_layers=size["num_layers"],
                num_attention_heads=size["num_heads"],
                intermediate_size=size["intermediate_dim"],
                max_position_embeddings=longest,
                hidden_dropout_prob=0.1,
                attention_probs_dropout_prob=0.1,
                num_labels=2,
            )
        )
        self.parameters = self._model.num_parameters()

    def round(self, number):
        """Trains for a round; returns examples a second."""
        transformers, ends = self._transformers, []

        class Clock(transformers.TrainerCallback):
            def on_step_end(self, arguments, state, control, **_):
                ends.append((state.global_step, time.perf_counter()))

        with tempfile.TemporaryDirectory() as folder:
            arguments = transformers.TrainingArguments(
                folder,
                per_device_train_batch_size=self._batch,
                max_steps=self._steps,
                learning_rate=5e-5,
                weight_decay=0.01,
                max_grad_norm=1.0,
                optim="adamw_torch_fused",
                seed=number,
                use_cpu=True,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
            )
            trainer = transformers.Trainer(
                self._model,
                arguments,
                data_collator=transformers.DataCollatorWithPadding(self._tokenizer),
                train_dataset=self._rows,
                processing_class=self._tokenizer,
                callbacks=[Clock()],
            )
            trainer.train()
        return _rate(ends, self._batch)


def compared(
    names, size="mini", batch=32, steps=30, rounds=5, tsv="", max_length=128, vocabulary=VOCABULARY
):
    """Trains the sides in turns.

    Args:
        names: sequence of sides, of `OURS`, `PADDED` and `TRAINER`.
        size: str, `mini` or an encoder of `keras_vitbert.configs.model`.
        batch, steps, rounds, tsv, max_length: see the flags.
        vocabulary: int, tokens to learn from the whole text.

    Returns:
        (dict of a side to its examples a second in each round, dict of a side to its parameters,
        float, the mean tokens of a sentence).
    """
    encoder = MINI if size == "mini" else SIZES[size]
    count = batch * steps
    read, sentences = _texts_and_sentences(tsv, count)
    tokens = learn_vocabulary(iter(read), vocabulary)
    labels = np.random.default_rng(0).integers(2, size=count)
    buckets = [n for n in fine_tuning.get_config("texts", "text").buckets if n < max_length]
    lengths = {OURS: (*buckets, max_length), PADDED: (max_length,)}
    texts = {
        name: LabelledTexts.encode(sentences, None, labels, tokens, found)
        for name, found in lengths.items()
    }
    sides = {
        name: _Trainer(texts[OURS], encoder, tokens, batch, steps)
        if name == TRAINER
        else _Ours(texts[name], encoder, tokens, batch, steps, rounds + 1)
        for name in names
    }
    rates = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in list(names)[:: 1 if number % 2 else -1]:
            rate = sides[name].round(number)
            if number:  # the first one traces
                rates[name].append(rate)
    parameters = {name: side.parameters for name, side in sides.items()}
    return rates, parameters, texts[OURS].lengths.mean()


def rows(other, target, **asked):
    """The row of `python -m benchmarks`: list of one `Row`.

    Args:
        other: str, `PADDED` or `TRAINER`.
        target: float.
        **asked: of `compared`.
    """
    rates, parameters, tokens = compared((OURS, other), **asked)
    ratios = _ratios(rates, other)
    against = {PADDED: "one length", TRAINER: "Trainer"}[other]
    return [
        Row(
            f"fine-tuning on sentences, {asked.get('size', 'mini')}, against {against}",
            statistics.median(rates[OURS]),
            "examples/s",
            peer=statistics.median(rates[other]),
            ratio=statistics.median(ratios),
            at_least=target,
            note=f"{len(ratios)} ratios from {ratios[0]:.2f} to {ratios[-1]:.2f}; "
            f"{tokens:.1f} tokens a sentence; "
            + " and ".join(f"{count / 1e6:.1f}" for count in parameters.values())
            + " M parameters",
        )
    ]


def _ratios(rates, other):
    return sorted(a / b for a, b in zip(rates[OURS], rates[other], strict=True))


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="mini", help="mini, or of keras_vitbert.configs.model")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=30, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tsv", default="", help="a table whose first column has the sentences")
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    logging.disable(logging.WARNING)  # of other packages
    names = (OURS, PADDED, TRAINER)
    rates, parameters, tokens = compared(names, **vars(parser.parse_args()))
    print(f"{tokens:.1f} tokens a sentence")
    for name, found in rates.items():
        print(
            f"{name:<8}{statistics.median(found):7.1f} examples/s, "
            f"{parameters[name] / 1e6:.1f} M parameters"
        )
    for other in names[1:]:
        ratios = _ratios(rates, other)
        print(
            f"ours / {other}: median of {len(ratios)} ratios {statistics.median(ratios):.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()

"""Fine-tuning on sentences: ours beside one length for all, or beside transformers' `Trainer`.

    python -m benchmarks.fine_tuning_peer [--peer=trainer] [--size=mini] [--batch=32] [--steps=30]
                                          [--rounds=5]

All sides train a classifier of the same size from random weights on the same sentences, in turns:

    ours     batches of about equally long sentences, padded to a bucket of 32, 64 or 128 tokens
    padded   the same with every batch padded to 128
    trainer  `transformers.Trainer` with `DataCollatorWithPadding`: random batches, padded to their
             longest sentence; it needs the extra `parity`

The recipe is ours: AdamW, clip 1, dropout 0.1, float32. A round trains each side for --steps steps;
examples a second are counted from the end of the first step to that of the last. Sentences are cut
from the sample's Wikipedia articles, with the lengths of SST-2's.
"""

import re
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf

from benchmarks.speed_table import Row, command, interleaved
from benchmarks.steps import paper_config
from keras_vitbert.configs import fine_tuning
from keras_vitbert.configs.model import SIZES
from keras_vitbert.experiments.fine_tuning.pretrained import RANDOM, Pretrained
from keras_vitbert.experiments.fine_tuning.trials import TaskStream, build_fine_tuner
from pipelines import package_data
from pipelines.prepare import sample, wikipedia
from pipelines.tasks.labelled_texts import LabelledTexts
from pipelines.text.wordpiece import learn_vocabulary

MINI = {"num_layers": 4, "num_heads": 4, "hidden_dim": 256, "intermediate_dim": 1024}
BUCKETS = (32, 64, 128)  # tokens
# Words and punctuation marks per sentence, from the shortest to the longest, at every tenth of the
# 6,920 training sentences of SST-2 (Socher et al. 2013; two classes, whole sentences).
LENGTHS = (2, 8, 12, 15, 17, 20, 23, 26, 30, 35, 64)


def sentences_like_sst2(texts: list[str], count: int, seed: int = 0) -> list[str]:
    """Pieces of texts with the lengths of SST-2's sentences."""
    words = [word for text in texts for word in re.findall(r"\w+|[^\w\s]", text)]
    random = np.random.default_rng(seed)
    places = np.linspace(0, 1, len(LENGTHS))
    lengths = np.interp(random.random(count), places, LENGTHS).round().astype(int)
    begins = random.integers(len(words) - max(LENGTHS), size=count)
    return [" ".join(words[b : b + n]) for b, n in zip(begins, lengths, strict=True)]


def rows(
    peer="trainer", size="mini", batch=32, steps=30, rounds=5, vocabulary=30_000, at_least=0.0
) -> list[Row]:
    """Trains both sides; `size` is `mini` or of `configs.model.SIZES`, `vocabulary` in tokens."""
    encoder = MINI if size == "mini" else SIZES[size]
    path = package_data.find_package_file(*sample.WIKIPEDIA_FILE)
    texts = [text for document in wikipedia.read_documents(path) for text in document.paragraphs]
    sentences = sentences_like_sst2(texts, batch * steps)
    tokens = learn_vocabulary(iter(texts), vocabulary)
    labels = np.random.default_rng(0).integers(2, size=batch * steps)
    encoded = LabelledTexts.encode(sentences, None, labels, tokens, BUCKETS)
    sides = {"ours": _Ours(encoded, encoder, tokens, batch, steps)}
    if peer == "padded":
        padded = LabelledTexts.encode(sentences, None, labels, tokens, BUCKETS[-1:])
        sides[peer] = _Ours(padded, encoder, tokens, batch, steps)
    else:
        sides[peer] = _Trainer(encoded, encoder, tokens, batch, steps)
    found = interleaved({name: side.round for name, side in sides.items()}, rounds)
    counts = " and ".join(f"{side.parameters / 1e6:.1f}" for side in sides.values())
    against = {"padded": "one length", "trainer": "Trainer"}[peer]
    return [
        Row.compared(
            f"fine-tuning on sentences, {size}, against {against}",
            found["ours"],
            found[peer],
            "examples/s",
            at_least=at_least or None,
            note=f"; {encoded.lengths.mean():.1f} tokens a sentence; {counts} M parameters",
        )
    ]


def _rate(ends, batch):
    """Examples a second between the end of the first step and that of the last."""
    return batch * (len(ends) - 1) / (ends[-1] - ends[0])


class _Clock(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        self.ends.append(time.perf_counter())


class _Ours:
    """Our trainer, data and recipe, on texts padded to given lengths."""

    def __init__(self, texts, size, vocabulary, batch, steps):
        self._texts, self._batch, self._steps = texts, batch, steps
        model = paper_config("sample").model.to_dict()
        model |= {**size, "vocabulary_size": len(vocabulary), "attention_dropout": -1.0}
        model["max_sequence_length"] = texts.bucket_boundaries[-1]
        pretrained = Pretrained(RANDOM, "", 0, "", model, None, vocabulary, "lower")
        values = {"dtype": "float32", "batch": batch, "steps": steps, "max_length": BUCKETS[-1]}
        values |= {"optimizer.learning_rate": 5e-5, "jit_compile": "off"}
        values |= {"steps_per_execution": 1}
        config = fine_tuning.get_config("texts", "text").with_values(values)
        strategy = tf.distribute.get_strategy()
        self._trainer, _ = build_fine_tuner(config, pretrained, [2], 0, strategy)
        self.parameters = self._trainer.network.count_params()

    def round(self):
        """Trains for a round; returns examples a second."""
        stream = TaskStream([self._texts], [self._batch], 0, self._steps).training(0, None)
        clock = _Clock()
        self._trainer.fit(
            stream, steps_per_epoch=self._steps, callbacks=[clock], verbose=0, shuffle=False
        )
        return _rate(clock.ends, self._batch)


class _Trainer:
    """Transformers' side."""

    def __init__(self, texts, size, vocabulary, batch, steps):
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        self._transformers, self._steps, self._batch = transformers, steps, batch
        ids = {token: number for number, token in enumerate(vocabulary)}
        self._tokenizer = transformers.BertTokenizerFast(vocab=ids)
        # Our tokens: the tokenizers differ in a few characters.
        self._rows = [
            {
                "input_ids": tokens.tolist(),
                "token_type_ids": [0] * len(tokens),
                "attention_mask": [1] * len(tokens),
                "labels": int(label),
            }
            for tokens, label in zip(
                np.split(texts.tokens, texts.starts[1:-1]), texts.labels, strict=True
            )
        ]
        torch.manual_seed(0)
        self._model = transformers.BertForSequenceClassification(
            transformers.BertConfig(
                vocab_size=len(vocabulary),
                hidden_size=size["hidden_dim"],
                num_hidden_layers=size["num_layers"],
                num_attention_heads=size["num_heads"],
                intermediate_size=size["intermediate_dim"],
                max_position_embeddings=texts.bucket_boundaries[-1],
                hidden_dropout_prob=0.1,
                attention_probs_dropout_prob=0.1,
                num_labels=2,
            )
        )
        self.parameters = self._model.num_parameters()

    def round(self):
        """Trains for a round; returns examples a second."""
        transformers, ends = self._transformers, []

        class Clock(transformers.TrainerCallback):
            def on_step_end(self, arguments, state, control, **_):
                ends.append(time.perf_counter())

        with tempfile.TemporaryDirectory() as folder:
            arguments = transformers.TrainingArguments(
                folder,
                per_device_train_batch_size=self._batch,
                max_steps=self._steps,
                learning_rate=5e-5,
                weight_decay=0.01,
                max_grad_norm=1.0,
                optim="adamw_torch_fused",
                use_cpu=True,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
            )
            transformers.Trainer(
                self._model,
                arguments,
                data_collator=transformers.DataCollatorWithPadding(self._tokenizer),
                train_dataset=self._rows,
                processing_class=self._tokenizer,
                callbacks=[Clock()],
            ).train()
        return _rate(ends, self._batch)


def main() -> None:
    """Runs the benchmark."""
    command(__doc__, rows)


if __name__ == "__main__":
    main()

"""What packing saves: the share of tokens that are not padding, and the time of a masked-LM step.

    python -m benchmarks.packing [--corpus=sample] [--size=sample] [--texts=64] [--rounds=15]
    python -m benchmarks.packing --corpus=short --size=small --texts=16

`sample` is the sample's texts of 64 tokens. `short` is documents of 100 to 300 words, drawn from
the sample's vocabulary, as pairs of segments of up to 512 tokens. Both kinds of steps take the same
texts, in turns.
"""

import pathlib
import statistics
import tempfile
import time

import numpy as np
import tensorflow as tf

from benchmarks.steps import compiled_trainer, step_parser
from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.merges import Merge
from keras_vitbert.merging import get_merge
from keras_vitbert.model.pretraining_network import build_network
from pipelines import text_examples
from pipelines.prepare import sample
from pipelines.shards.records import RecordFiles
from pipelines.text.packing import packed
from pipelines.text.wordpiece import read_vocabulary
from pipelines.text_stream import TextStream

_DOCUMENTS, _LENGTH = 2_000, 512


def main():
    """Runs the benchmark."""
    parser = step_parser(__doc__, texts=64, rounds=15)
    parser.add_argument("--corpus", default="sample", choices=("sample", "short"))
    parser.set_defaults(size="sample")
    arguments = parser.parse_args()
    data = sample.prepare()
    vocabulary = read_vocabulary(data.vocabulary)
    with tempfile.TemporaryDirectory() as folder:
        pattern = data.text_train
        if arguments.corpus == "short":
            pattern = _short_documents(pathlib.Path(folder), vocabulary, data.vocabulary)
        records = RecordFiles.find(pattern)
        texts = TextStream.open(records, vocabulary, len(vocabulary), 0)
        rows = texts.training(0, 0, arguments.texts)
        both = tf.data.Dataset.zip(rows, rows.map(packed)).take(arguments.rounds + 1)
        _compare(arguments, texts, both, len(vocabulary))


def _compare(arguments, texts, both, vocabulary_size):
    sizes = {"vocabulary_size": vocabulary_size, "max_sequence_length": texts.length}
    config = load_config(f"paper:{arguments.size}").with_sizes(sizes)
    network = build_network({**config.model.to_dict(), "dropout": 0.0}, images=False)
    trainer = compiled_trainer(network, get_merge(Merge(name="sum")), config)
    steps = [
        tf.function(trainer.train_step, input_signature=(spec,), autograph=False)
        for spec in both.element_spec
    ]
    used, ratios = [], []
    for number, batches in enumerate(both):
        seconds = [0.0, 0.0]
        for kind in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter()
            steps[kind](batches[kind])["gradient_norm"].numpy()
            seconds[kind] = time.perf_counter() - began
        masks = [batch["padding_mask"].numpy() > 0 for batch in batches]
        used.append([(np.sum(mask), mask.size) for mask in masks])
        if number:  # the first one traces
            ratios.append(seconds[0] / seconds[1])
    for name, counts in zip(("a row each", "packed"), zip(*used, strict=True), strict=True):
        real, places = np.sum(counts, 0)
        print(f"{name:<12}{real / places:7.1%} of {places // len(counts):,} tokens a step are used")
    print(
        f"{arguments.corpus}, {arguments.size}, {arguments.texts} texts a step: packed "
        f"{statistics.median(ratios):.3f} times as many tokens a second "
        f"({min(ratios):.3f} to {max(ratios):.3f})"
    )


def _short_documents(folder, vocabulary, vocabulary_file):
    """A pattern of examples of documents of 100 to 300 words, in sentences of 5 to 30."""
    rng = np.random.default_rng(0)
    words = [token for token in vocabulary if token.isalpha() and len(token) > 1]
    with open(folder / "documents.txt", "w") as file:
        for _ in range(_DOCUMENTS):
            left = int(rng.integers(100, 301))
            while left > 0:
                count = min(left, int(rng.integers(5, 31)))
                file.write(" ".join(rng.choice(words, count)) + ".\n")
                left -= count
            file.write("\n")
    text_examples.main(
        [
            f"--documents={folder}/documents.txt",
            f"--vocabulary={vocabulary_file}",
            f"--output={folder}/examples",
            f"--max_length={_LENGTH}",
            "--duplication=1",
        ]
    )
    return f"{folder}/examples-*"


if __name__ == "__main__":
    main()

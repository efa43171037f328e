"""Times `pipelines.text_examples` against Model Garden's `create_pretraining_data.py`, in turns.

    python -m venv mg && mg/bin/pip install tensorflow tf-keras tensorflow-text sentencepiece
    mg/bin/pip install --no-deps tf-models-official
    python -m benchmarks.text_examples --model_garden_python=mg/bin/python [--length=512] ...

Both run as whole commands on the same sentences with the same settings, on the sample's text and
on one `--larger` times as large, which has the paragraphs of each document in other orders. The
rate is tokens in the written files per second of CPU time (user and system, all processes). The
marginal rate, of the larger corpus less the smaller one, excludes the time to start. Without a
Python that has tf-models-official only ours is measured.
"""

import dataclasses
import glob
import os
import pathlib
import random
import resource
import subprocess
import sys
import tempfile

from benchmarks.speed_table import Row, command, interleaved
from pipelines import package_data
from pipelines.prepare import sample, wikipedia
from pipelines.text import documents
from pipelines.text import wordpiece as vocabularies
from pipelines.text.bert_examples import SPECIALS_PER_EXAMPLE
from pipelines.text.tokenization import sentences_of


def rows(
    model_garden_python="", length=512, duplication=5, vocabulary_size=30_000, larger=12, rounds=1
) -> list[Row]:
    """Runs both commands on both corpora."""
    path = package_data.find_package_file(*sample.WIKIPEDIA_FILE)
    read = list(wikipedia.read_documents(path))
    texts = (text for document in read for text in document.paragraphs)
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work)
        tokens = vocabularies.learn_vocabulary(texts, vocabulary_size)
        vocabularies.write_vocabulary(str(folder / "vocab.txt"), tokens)
        predictions = round(vocabularies.MASKED_RATIO * (length - SPECIALS_PER_EXAMPLE))

        def ours(copies):
            line = [sys.executable, "-m", "pipelines.text_examples", "--shards=1"]
            line += [f"--documents={folder}/documents-{copies}", f"--vocabulary={folder}/vocab.txt"]
            line += [f"--output={folder}/out", f"--max_length={length}"]
            line += [f"--max_predictions={predictions}", f"--duplication={duplication}"]
            return [*line, "--", "--direct_num_workers=1"]

        def theirs(copies):
            line = [model_garden_python, "-m", "official.nlp.data.create_pretraining_data"]
            line += [f"--input_file={folder}/sentences-{copies}", f"--output_file={folder}/out"]
            line += [f"--vocab_file={folder}/vocab.txt", f"--max_seq_length={length}"]
            line += [f"--max_predictions_per_seq={predictions}", f"--dupe_factor={duplication}"]
            return line

        found = {}
        for copies in (1, larger):
            _write_corpus(folder, read, copies)
            sides = {"ours": ours} | ({"peer": theirs} if model_garden_python else {})
            sides = {name: _run(line(copies), folder) for name, line in sides.items()}
            found[copies] = interleaved(sides, rounds, warm=0)
    sizes = {"the corpus": (1,), f"{larger} times": (larger,), "beyond once": (larger, 1)}
    return [_row(label, [found[size] for size in of]) for label, of in sizes.items()]


def _row(label, found):
    """A row of tokens a second of CPU time; of two corpora, of what the first has more."""

    def rates(side):
        totals = [[sum(numbers) for numbers in zip(*corpus[side], strict=True)] for corpus in found]
        (tokens, seconds), *rest = totals
        for less_tokens, less_seconds in rest:
            tokens, seconds = tokens - less_tokens, seconds - less_seconds
        return [tokens / seconds]

    what = f"BERT examples, {label}, per second of CPU time"
    if "peer" not in found[0]:
        return Row(what, rates("ours")[0], "tokens/s")
    return Row.compared(what, rates("ours"), rates("peer"), "tokens/s")


def _write_corpus(folder, texts, copies):
    """Writes the texts, repeated, in both formats."""
    order = random.Random(0)
    with (
        open(folder / f"documents-{copies}", "wb") as ours,
        open(folder / f"sentences-{copies}", "w") as theirs,
    ):
        for copy in range(copies):
            for document in texts:
                paragraphs = list(document.paragraphs)
                if copy:
                    order.shuffle(paragraphs)
                document = dataclasses.replace(document, paragraphs=tuple(paragraphs))
                ours.write(documents.to_json(document) + b"\n")
                theirs.writelines(f"{sentence}\n" for sentence in sentences_of(document))
                theirs.write("\n")


def _run(line, folder):
    """A side that runs a command: (tokens written, seconds of CPU time)."""

    def run():
        for path in glob.glob(f"{folder}/out*"):
            os.remove(path)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
        subprocess.run(line, env=environment, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        paths = [path for path in glob.glob(f"{folder}/out*") if not path.endswith(".json")]
        return _count_tokens(paths), seconds

    return run


def _count_tokens(paths):
    """How many tokens without padding TFRecord files hold."""
    import tensorflow as tf

    feature = {"input_mask": tf.io.RaggedFeature(tf.int64)}
    batches = tf.data.TFRecordDataset(paths).batch(1024)
    masks = (tf.io.parse_example(batch, feature)["input_mask"] for batch in batches)
    return sum(int(tf.reduce_sum(mask)) for mask in masks)


def main() -> None:
    """Runs the benchmark."""
    command(__doc__, rows)


if __name__ == "__main__":
    main()

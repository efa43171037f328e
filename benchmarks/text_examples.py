"""Times `pipelines.text_examples` against Model Garden's `create_pretraining_data.py`, in turns.

    python -m venv mg && mg/bin/pip install tensorflow tf-keras tensorflow-text sentencepiece
    mg/bin/pip install --no-deps tf-models-official
    python -m benchmarks.text_examples --model_garden_python=mg/bin/python [--length=512] ...

Both run as whole commands on the same sentences with the same settings, on a corpus and on a larger
one. The rate is tokens in the written files per second of CPU time (user and system, all
processes). The marginal rate, of the larger corpus less the smaller one, excludes the time to
start. Then it measures the memory of ours on the corpus and on one twenty times its size.

The text is that of the sample, or other documents; repetitions have the paragraphs of each document
in another order.
"""

import argparse
import dataclasses
import glob
import os
import pathlib
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time

from pipelines import package_data
from pipelines.prepare import sample, wikipedia
from pipelines.text import bert_examples, documents
from pipelines.text import wordpiece as vocabularies
from pipelines.text.bert_examples import SPECIALS_PER_EXAMPLE
from pipelines.text.tokenization import sentences_of

OURS, THEIRS = "keras_vitbert", "model garden"


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model_garden_python", help="a Python with tf-models-official")
    parser.add_argument("--documents", help="a pattern of document files, instead of the sample's")
    parser.add_argument("--length", type=int, default=512, help="tokens of an example")
    parser.add_argument("--duplication", type=int, default=5)
    parser.add_argument("--vocabulary_size", type=int, default=30_000)
    parser.add_argument("--larger", type=int, default=12, help="size of the larger corpus")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="processes of ours")
    parser.add_argument("--unit_megabytes", type=float, default=1, help="of ours")
    parser.add_argument("--memory", type=int, default=20, help="size for the memory; 0: no test")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        texts = read_texts(arguments.documents)
        size = sum(len(text) for document in texts for text in document.paragraphs)
        tokens = vocabularies.learn_vocabulary(
            (text for document in texts for text in document.paragraphs),
            arguments.vocabulary_size,
        )
        vocabularies.write_vocabulary(str(folder / "vocab.txt"), tokens)
        print(
            f"{len(texts)} documents, {size:,} characters, {len(tokens):,} word pieces, length "
            f"{arguments.length}, duplication {arguments.duplication}",
            flush=True,
        )
        if arguments.model_garden_python:
            compare(folder, texts, arguments)
        if arguments.memory:
            for copies in (1, arguments.memory):
                write_corpus(folder, texts, copies)
                run(OURS, folder, copies, arguments)


def read_texts(pattern):
    """The documents of the corpora."""
    if pattern:
        return [d for unit in documents.find_units(pattern) for d in documents.read_unit(unit)]
    return list(wikipedia.read_documents(package_data.find_package_file(*sample.WIKIPEDIA_FILE)))


def write_corpus(folder, texts, copies):
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


def compare(folder, texts, arguments):
    """Runs both commands on two sizes, and prints the rates."""
    totals = {}
    for copies in (1, arguments.larger):
        write_corpus(folder, texts, copies)
        for _ in range(arguments.rounds):
            for tool in (THEIRS, OURS):
                figures = run(tool, folder, copies, arguments)
                for key, figure in zip(("tokens", "seconds"), figures, strict=True):
                    totals[tool, copies, key] = totals.get((tool, copies, key), 0) + figure

    def rate(tool, copies, less=0):
        tokens, seconds = (
            totals[tool, copies, key] - totals.get((tool, less, key), 0)
            for key in ("tokens", "seconds")
        )
        return tokens / seconds

    for label, *sizes in (
        ("the corpus", 1),
        (f"{arguments.larger} times the corpus", arguments.larger),
        ("marginal", arguments.larger, 1),
    ):
        ours, theirs = rate(OURS, *sizes), rate(THEIRS, *sizes)
        print(
            f"{label}: {OURS} {ours:,.0f} tokens a second of CPU time, {THEIRS} {theirs:,.0f}, "
            f"ratio {ours / theirs:.1f}",
            flush=True,
        )


def run(tool, folder, copies, arguments):
    """Runs one command; returns (tokens written, seconds of CPU time)."""
    for path in glob.glob(str(folder / "out*")):
        os.remove(path)
    predictions = round(bert_examples.MASKED_RATIO * (arguments.length - SPECIALS_PER_EXAMPLE))
    if tool == OURS:
        command = [
            sys.executable, "-m", "pipelines.text_examples",
            f"--documents={folder}/documents-{copies}", f"--vocabulary={folder}/vocab.txt",
            f"--output={folder}/out", f"--shards={arguments.workers}",
            f"--max_length={arguments.length}", f"--max_predictions={predictions}",
            f"--duplication={arguments.duplication}",
            f"--unit_megabytes={arguments.unit_megabytes}",
            "--", f"--direct_num_workers={arguments.workers}",
        ]  # fmt: skip
    else:
        command = [
            arguments.model_garden_python, "-m", "official.nlp.data.create_pretraining_data",
            f"--input_file={folder}/sentences-{copies}", f"--vocab_file={folder}/vocab.txt",
            f"--output_file={folder}/out", f"--max_seq_length={arguments.length}",
            f"--max_predictions_per_seq={predictions}", f"--dupe_factor={arguments.duplication}",
        ]  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    process = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    memory = _Memory(process.pid)
    stderr = process.communicate()[1].decode(errors="replace")
    if process.returncode:
        sys.exit(f"{' '.join(command)}\n{stderr}\nended with status {process.returncode}")
    largest, together = memory.stop()
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    tokens, examples = count_tokens(
        [path for path in glob.glob(str(folder / "out*")) if not path.endswith(".json")]
    )
    print(
        f"{tool}, {copies} times the corpus: {examples:,} examples, {tokens:,} tokens, "
        f"{seconds:.1f} s of CPU time, {wall:.1f} s; peak memory {largest:,.0f} MiB in the "
        f"largest process, {together:,.0f} MiB in all",
        flush=True,
    )
    return tokens, seconds


def count_tokens(paths):
    """How many tokens without padding, and how many examples, TFRecord files hold."""
    import tensorflow as tf

    feature = {"input_mask": tf.io.RaggedFeature(tf.int64)}
    tokens = examples = 0
    for batch in tf.data.TFRecordDataset(paths).batch(1024):
        mask = tf.io.parse_example(batch, feature)["input_mask"]
        tokens += int(tf.reduce_sum(mask))
        examples += len(batch)
    return tokens, examples


class _Memory:
    """Watches the resident memory of a process and its descendants in /proc."""

    def __init__(self, pid):
        self._pid = pid
        self._peaks = [0, 0]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self):
        """MiB of the largest process, and of all together, at their peaks."""
        self._ended.set()
        self._thread.join()
        return [peak / 2**20 for peak in self._peaks]

    def _watch(self):
        while not self._ended.wait(0.1):
            sizes = list(self._sizes())
            if sizes:
                self._peaks = [max(self._peaks[0], *sizes), max(self._peaks[1], sum(sizes))]

    def _sizes(self):
        family = {self._pid}
        for entry in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
            try:
                stat = pathlib.Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            if int(entry) in family or int(stat[1]) in family:
                family.add(int(entry))
                yield int(stat[21]) * resource.getpagesize()


if __name__ == "__main__":
    main()

"""Times an exported model against pipelines of transformers, in turns.

    python -m benchmarks.serving [--transformers_python=PATH] [--rounds=5] [--dtype=float32]

Models of base size with random weights: ViT-BERT as `export` writes it, against a ViT and BERTs of
transformers in its pipelines, in float32. Both get the same bytes and strings:

    image     JPEGs of 500 x 375 pixels and 100 kB, decoded and classified at 224 pixels
    text N    sentences of N tokens on average, plus or minus 40 %, classified
    mask N    the same with one [MASK], filled

each 8 one by one and 32 at once; transformers also pads to the longest of a batch. The vocabulary
holds 30,000 tokens: special ones and made-up words. Each round runs every task on both sides. It
prints examples a second, the median of the ratios over the rounds, and the same for processor time,
which other work on the machine disturbs less. --transformers_python is a Python with torch,
transformers and Pillow.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

EXAMPLES = {1: 8, 32: 32}  # of a task in a round, by the size of the batches
LENGTHS = (25, 128)
CLASSES, TEXT_CLASSES, VOCABULARY_SIZE = 1000, 2, 30_000
TASKS = ("image", *(f"{kind} {length}" for kind in ("text", "mask") for length in LENGTHS))


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--transformers_python", help="a Python with transformers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="float32", help="of the exported model")
    parser.add_argument("--tasks", default=",".join(TASKS), help="the tasks to run")
    parser.add_argument("--transformers_side", help=argparse.SUPPRESS)  # the folder
    arguments = parser.parse_args()
    if arguments.transformers_side:
        serve_transformers(arguments.transformers_side)
        return
    tasks = arguments.tasks.split(",")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        write_inputs(folder, max(EXAMPLES.values()))
        sides = {"exported": timer(exported_tasks(folder, arguments.dtype))}
        if arguments.transformers_python:
            side = transformers_timer(arguments.transformers_python, folder)
            sides["transformers"] = stack.enter_context(side)
        else:
            print("no --transformers_python: transformers is not measured")
        compare(sides, tasks, arguments.rounds)


def compare(sides, tasks, rounds):
    """Times all tasks of both sides in turn, round after round, and prints the ratios."""
    settings = list(itertools.product(tasks, EXAMPLES))
    wall, busy = ({key: [] for key in itertools.product(sides, settings)} for _ in range(2))
    for setting in settings:
        for side in sides.values():
            side(*setting, setting[1])  # graphs are traced before the clock runs
    for number in range(rounds):
        for setting in settings:
            for name in list(sides) if number % 2 else list(sides)[::-1]:
                examples = EXAMPLES[setting[1]]
                seconds, processor = sides[name](*setting, examples)
                wall[name, setting].append(examples / seconds)
                busy[name, setting].append(examples / processor)
        print(f"round {number + 1} of {rounds} is done", flush=True)
    for kind, rates in (("examples a second", wall), ("per second of processor time", busy)):
        print(f"{kind}, medians of {rounds} rounds:")
        for setting in settings:
            task, batch = setting
            values = {name: statistics.median(rates[name, setting]) for name in sides}
            line = "  ".join(f"{name} {value:8.2f}" for name, value in values.items())
            if len(sides) > 1:
                pairs = zip(*(rates[name, setting] for name in sides), strict=True)
                ratios = sorted(ours / theirs for ours, theirs in pairs)
                line += (
                    f"  median of ratios {statistics.median(ratios):.2f} "
                    f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
                )
            print(f"  {task:<9} batch {batch:>2}  {line}")


def timer(functions):
    """A function of task, batch size and number of examples, to seconds and processor time."""

    def taken(task, batch, count):
        function, examples = functions[task]
        batches = [examples[k : k + batch] for k in range(0, count, batch)]
        began, busy = time.perf_counter(), time.process_time()
        for values in batches:
            function(values)
        return time.perf_counter() - began, time.process_time() - busy

    return taken


def write_inputs(folder, count):
    """Writes images, a vocabulary and sentences."""
    from benchmarks.image_stream import write_images
    from pipelines.text.wordpiece import MASK, SPECIAL_TOKENS, write_vocabulary

    write_images(folder, count)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = ("".join(parts) for parts in itertools.product(syllables, repeat=3))
    words = list(itertools.islice(words, VOCABULARY_SIZE - len(SPECIAL_TOKENS)))
    write_vocabulary(os.path.join(folder, "vocab.txt"), [*SPECIAL_TOKENS, *words])
    chance, sentences = random.Random(0), {}
    for length in LENGTHS:
        lengths = [chance.randint(int(0.6 * length), int(1.4 * length)) - 2 for _ in range(count)]
        texts = [chance.choices(words, k=tokens) for tokens in lengths]
        sentences[f"text {length}"] = [" ".join(text) for text in texts]
        masked = [[*text[:5], MASK, *text[6:]] for text in texts]
        sentences[f"mask {length}"] = [" ".join(text) for text in masked]
    with open(os.path.join(folder, "sentences.json"), "w") as file:
        json.dump(sentences, file)


def read_inputs(folder):
    """Reads what was written: dict of a task to a list of bytes or of str."""
    with open(os.path.join(folder, "sentences.json")) as file:
        inputs = json.load(file)
    names = sorted(name for name in os.listdir(folder) if name.endswith(".jpg"))
    inputs["image"] = [open(os.path.join(folder, name), "rb").read() for name in names]
    return inputs


def exported_tasks(folder, dtype):
    """Exports a model with random weights and reads it back.

    Returns:
        dict of a task to (function of a list of examples, list of all examples).
    """
    import tensorflow as tf

    from keras_vitbert.configs import paper
    from keras_vitbert.model.heads import MLPHead
    from keras_vitbert.model.pretraining_network import build_network
    from keras_vitbert.trained.exporting import export
    from keras_vitbert.trained.trained_model import TrainedModel
    from pipelines.text.wordpiece import read_vocabulary

    model = {**paper.get_config().with_sizes().model.to_dict(), "num_classes": CLASSES}
    network = build_network({**model, "vocabulary_size": VOCABULARY_SIZE})
    head = MLPHead(TEXT_CLASSES)
    head.build((None, network.backbone.hidden_dim))
    heads = {"image": network.image_head, "text": head, "mlm": network.mlm_head}
    vocabulary = read_vocabulary(os.path.join(folder, "vocab.txt"))
    trained = TrainedModel(folder, "base", network.backbone, heads, vocabulary=vocabulary)
    path, _ = export(trained.in_dtype(dtype), os.path.join(folder, "served"))
    loaded = tf.saved_model.load(path)
    tasks = {"image": "classify_image", "text": "classify_text", "mask": "fill_mask"}

    def function(task):
        kind = task.split()[0]
        signature = loaded.signatures[tasks[kind]]
        name = "image" if kind == "image" else "text"
        return lambda values: {
            key: value.numpy() for key, value in signature(**{name: tf.constant(values)}).items()
        }

    return {task: (function(task), values) for task, values in read_inputs(folder).items()}


@contextlib.contextmanager
def transformers_timer(python, folder):
    """Like `timer`, for a process that runs this file in another Python."""
    command = [python, os.path.abspath(__file__), "--transformers_side", folder]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )

    def taken(*asked):
        print(json.dumps(asked), file=process.stdin, flush=True)
        return tuple(map(float, process.stdout.readline().split()))

    try:
        yield taken
    finally:
        process.stdin.close()
        process.wait()


def serve_transformers(folder):
    """Reads tasks and batch sizes from standard input and times the pipelines."""
    import transformers
    from PIL import Image

    inputs, path = read_inputs(folder), os.path.join(folder, "vocab.txt")
    with open(path) as file:
        words = {line.rstrip("\n"): number for number, line in enumerate(file)}
    tokenizer = transformers.BertTokenizerFast(vocab=words)
    # The comparison needs the same tokens on both sides.
    for task, sentences in inputs.items():
        if task != "image":
            for sentence in sentences:
                assert len(tokenizer(sentence)["input_ids"]) == 2 + len(sentence.split())
    bert = transformers.BertConfig(vocab_size=len(words), num_labels=TEXT_CLASSES)
    pipelines = {
        "image": transformers.pipeline(
            "image-classification",
            model=transformers.ViTForImageClassification(
                transformers.ViTConfig(num_labels=CLASSES)
            ).eval(),
            image_processor=transformers.ViTImageProcessor(),
        ),
        "text": transformers.pipeline(
            "text-classification",
            model=transformers.BertForSequenceClassification(bert).eval(),
            tokenizer=tokenizer,
        ),
        "mask": transformers.pipeline(
            "fill-mask", model=transformers.BertForMaskedLM(bert).eval(), tokenizer=tokenizer
        ),
    }

    def function(task):
        kind = task.split()[0]
        pipeline = pipelines[kind]

        def answer(values):
            if kind == "image":
                values = [Image.open(io.BytesIO(value)) for value in values]
            return pipeline(values, batch_size=len(values))

        return answer

    taken = timer({task: (function(task), values) for task, values in inputs.items()})
    for line in sys.stdin:
        print(*taken(*json.loads(line)), flush=True)


if __name__ == "__main__":
    main()

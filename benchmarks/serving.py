"""Times an exported model against pipelines of transformers, in turns.

    python -m benchmarks.serving [--rounds=5] [--dtype=float32] [--tasks="image,text 25,mask 25"]

Models of base size with random weights: ViT-BERT as `export` writes it, against a ViT and BERTs of
transformers in its pipelines, in float32. Both get the same bytes and strings:

    image     JPEGs of 500 x 375 pixels and 100 kB, decoded and classified at 224 pixels
    text N    sentences of N tokens on average, plus or minus 40 %, classified
    mask N    the same with one [MASK], filled

each 8 one by one and 32 at once; transformers also pads to the longest of a batch. The vocabulary
holds 30,000 tokens: special ones and made-up words. It needs the extra `parity`.
"""

import io
import itertools
import os
import random
import tempfile
import time

from benchmarks.image_stream import write_images
from benchmarks.speed_table import Row, command, interleaved
from pipelines.text.wordpiece import MASK, SPECIAL_TOKENS

EXAMPLES = {1: 8, 32: 32}  # of a task in a round, by the size of the batches
CLASSES, TEXT_CLASSES, VOCABULARY_SIZE = 1000, 2, 30_000


def rows(
    rounds=5, dtype="float32", size="base", tasks="image,text 25,text 128,mask 25,mask 128"
) -> list[Row]:
    """Times every task at every size of batches, in examples a second."""
    with tempfile.TemporaryDirectory() as folder:
        syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
        words = ("".join(three) for three in itertools.product(syllables, repeat=3))
        words = list(itertools.islice(words, VOCABULARY_SIZE - len(SPECIAL_TOKENS)))
        vocabulary = [*SPECIAL_TOKENS, *words]
        inputs = {task: _inputs(task, words, folder) for task in tasks.split(",")}
        ours, theirs = _exported(folder, vocabulary, size, dtype), _pipelines(vocabulary, size)
        found = []
        for (task, examples), batch in itertools.product(inputs.items(), EXAMPLES):
            kind = task.split()[0]
            batches = [examples[k : k + batch] for k in range(0, EXAMPLES[batch], batch)]
            sides = {"ours": _rate(ours[kind], batches), "peer": _rate(theirs[kind], batches)}
            rates = interleaved(sides, rounds)
            what = f"serving, {task}, {batch} at once"
            found.append(Row.compared(what, rates["ours"], rates["peer"], "examples/s"))
    return found


def _rate(answer, batches):
    def rate():
        began = time.perf_counter()
        for batch in batches:
            answer(batch)
        return sum(map(len, batches)) / (time.perf_counter() - began)

    return rate


def _inputs(task, words, folder):
    """The examples of a task: bytes of JPEGs, or sentences."""
    count = max(EXAMPLES.values())
    if task == "image":
        write_images(folder, count)
        names = sorted(name for name in os.listdir(folder) if name.endswith(".jpg"))
        return [open(os.path.join(folder, name), "rb").read() for name in names]
    kind, mean = task.split()
    chance, sentences = random.Random(0), []
    for _ in range(count):
        tokens = chance.randint(int(0.6 * int(mean)), int(1.4 * int(mean))) - 2
        text = chance.choices(words, k=tokens)
        sentences.append(" ".join([*text[:5], MASK, *text[6:]] if kind == "mask" else text))
    return sentences


def _exported(folder, vocabulary, size, dtype):
    """Exports a model and reads it back: dict of a kind of task to a function of examples."""
    import tensorflow as tf

    from benchmarks.steps import paper_config
    from keras_vitbert.model.heads import MLPHead
    from keras_vitbert.model.pretraining_network import build_network
    from keras_vitbert.trained.exporting import export
    from keras_vitbert.trained.trained_model import TrainedModel

    model = paper_config(size, num_classes=CLASSES, vocabulary_size=VOCABULARY_SIZE).model
    network = build_network(model.to_dict())
    head = MLPHead(TEXT_CLASSES)
    head.build((None, network.backbone.hidden_dim))
    heads = {"image": network.image_head, "text": head, "mlm": network.mlm_head}
    trained = TrainedModel(folder, size, network.backbone, heads, vocabulary=vocabulary)
    path, _ = export(trained.in_dtype(dtype), os.path.join(folder, "served"))
    loaded = tf.saved_model.load(path)

    def function(name, argument):
        def answer(examples):
            answers = loaded.signatures[name](**{argument: tf.constant(examples)})
            return [value.numpy() for value in answers.values()]

        return answer

    return {
        "image": function("classify_image", "image"),
        "text": function("classify_text", "text"),
        "mask": function("fill_mask", "text"),
    }


def _pipelines(vocabulary, size):
    """The same of transformers."""
    import transformers
    from PIL import Image

    from keras_vitbert.configs.model import SIZES

    encoder = SIZES[size]
    sizes = {
        "hidden_size": encoder["hidden_dim"],
        "num_hidden_layers": encoder["num_layers"],
        "num_attention_heads": encoder["num_heads"],
        "intermediate_size": encoder["intermediate_dim"],
    }
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = transformers.BertTokenizerFast(vocab=ids)
    bert = transformers.BertConfig(vocab_size=len(ids), num_labels=TEXT_CLASSES, **sizes)
    vit = transformers.ViTConfig(num_labels=CLASSES, **sizes)
    images = transformers.pipeline(
        "image-classification",
        model=transformers.ViTForImageClassification(vit).eval(),
        image_processor=transformers.ViTImageProcessor(),
    )
    texts = transformers.pipeline(
        "text-classification",
        model=transformers.BertForSequenceClassification(bert).eval(),
        tokenizer=tokenizer,
    )
    masks = transformers.pipeline(
        "fill-mask", model=transformers.BertForMaskedLM(bert).eval(), tokenizer=tokenizer
    )

    def classify(encoded):
        opened = [Image.open(io.BytesIO(image)) for image in encoded]
        return images(opened, batch_size=len(opened))

    return {
        "image": classify,
        "text": lambda sentences: texts(sentences, batch_size=len(sentences)),
        "mask": lambda sentences: masks(sentences, batch_size=len(sentences)),
    }


def main() -> None:
    """Runs the benchmark."""
    command(__doc__, rows)


if __name__ == "__main__":
    main()

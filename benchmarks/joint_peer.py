"""The joint step beside PyTorch's with transformers' blocks, in turns.

    python -m benchmarks.joint_peer [--size=base] [--images=8] [--texts=1] [--rounds=9]
                                    [--dtype=float32]

Both have the same sizes, dropout, heads, clip and AdamW. PyTorch's step also has one encoder, made
of a `ViTModel`'s blocks, and one backward pass of the sum of the losses. Ours has two gradients and
merges them by masks (the paper's step). With `mixed_bfloat16` PyTorch uses its autocast. The
ceiling is our step's matrix products at the speed that they reach alone. With 32 images in float32
both sides together need more than 24 GB. It needs the extra `parity`.

PyTorch's time depends on the C library's `malloc`, which gives the memory of a step back to the
system afterwards. `python -m benchmarks --only=joint_bfloat16_keeping` lets both sides keep it.
"""

import math
import os
import statistics

import tensorflow as tf

from benchmarks.speed_table import Row, command, interleaved, timed
from benchmarks.steps import compiled_step, compiled_trainer, paper_config, random_batch
from keras_vitbert.model.flops import TRAINING, image_flops, text_flops


def rows(size="base", images=8, texts=1, rounds=9, dtype="float32", at_least=0.0) -> list[Row]:
    """Times both steps, and the products of ours alone."""
    config = paper_config(size)
    batch = random_batch(config.model, images, texts)
    peer, of_peer = _peer_step(config, dtype, batch)
    trainer = compiled_trainer(config, dtype)
    length, predictions = config.model.max_sequence_length, batch["masked_ids"].shape[1]
    run_products, operations = _products(config.model, images, texts, length, predictions, dtype)
    sides = {"ours": compiled_step(trainer, batch), "peer": peer, "products": run_products}
    found = interleaved({name: timed(run) for name, run in sides.items()}, rounds)
    backbone = trainer.network.backbone
    flops = images * image_flops(backbone, config.model.num_classes)
    flops += texts * text_flops(backbone, length, predictions)
    rate = operations / statistics.median(found["products"])
    own = sum(math.prod(v.shape) for v in trainer.network.trainable_variables)
    kept = ", memory kept" if "GLIBC_TUNABLES" in os.environ else ""
    return [
        Row.compared(
            f"joint step, {size}, {dtype}, {images} images and {texts} texts{kept}",
            found["ours"],
            found["peer"],
            ceiling=TRAINING * flops / rate,
            at_least=at_least or None,
            note=f"; products reach {rate / 1e9:.0f} GFLOP/s alone; {own / 1e6:.1f} and "
            f"{of_peer / 1e6:.1f} M parameters",
        )
    ]


def _products(model, images, texts, length, predictions, dtype):
    """The matrix products of one block and of the masked-LM head, forward and backward.

    They have the shapes of a step without padding, all tokens of a modality in one product with a
    kernel. Whatever else a step does, it takes as long as its products, unless it makes fewer.

    Returns:
        (callable that runs them one after another and waits; int, their operations).
    """
    dtype = "float32" if dtype == "float32" else "bfloat16"
    width, wide, heads = model.hidden_dim, model.intermediate_dim, model.num_heads
    patches = (model.image_size // model.patch_size) ** 2
    shapes: list[tuple[int, ...]] = [(texts * predictions, width, model.vocabulary_size)]
    for count, tokens in ((images, patches + 1), (texts, length)):
        number, of_head = count * tokens, width // heads
        shapes += [(number, width, width)] * 4 + [(number, width, wide), (number, wide, width)]
        shapes += [(count * heads, tokens, of_head, tokens)]  # scores
        shapes += [(count * heads, tokens, tokens, of_head)]  # the sum of values
    operands, operations = [], 0
    for *batch, m, k, n in shapes:
        sides = ((m, k), (k, n), (m, n))  # random values: zeros may be multiplied faster
        operands.append([tf.cast(tf.random.normal((*batch, *side)), dtype) for side in sides])
        operations += TRAINING * 2 * m * k * n * math.prod(batch)

    @tf.function
    def products(operands):
        done = tf.zeros((), dtype)
        for x, w, g in operands:
            backward = (g, w, {"transpose_b": True}), (x, g, {"transpose_a": True})
            for a, b, order in ((x, w, {}), *backward):
                # One after another: two at once would only share the cores. An entry of each is
                # used, because a product that nothing uses would not be computed.
                with tf.control_dependencies([done]):
                    done += tf.reshape(tf.matmul(a, b, **order), [-1])[0]
        return done

    return lambda: products(operands).numpy(), operations


def _peer_step(config, dtype, batch):
    """The same network of transformers' blocks: a callable that runs a step, and its parameters."""
    import torch
    import transformers
    from torch import nn

    model = config.model
    width, rate = model.hidden_dim, model.dropout
    vit = transformers.ViTModel(
        transformers.ViTConfig(
            hidden_size=width,
            num_hidden_layers=model.num_layers,
            num_attention_heads=model.num_heads,
            intermediate_size=model.intermediate_dim,
            hidden_dropout_prob=rate,
            attention_probs_dropout_prob=rate,
            image_size=model.image_size,
            patch_size=model.patch_size,
        ),
        add_pooling_layer=False,
    )
    encoder = getattr(vit, "encoder", vit)  # transformers 5 has the blocks in the model
    blocks = getattr(encoder, "layer", None) or encoder.layers

    def head(classes):
        hidden = nn.Linear(width, width)
        return nn.Sequential(hidden, nn.GELU(), nn.Dropout(rate), nn.Linear(width, classes))

    positions = nn.Embedding(model.max_sequence_length, width)
    words, segments = nn.Embedding(model.vocabulary_size, width), nn.Embedding(2, width)
    dropout = nn.Dropout(rate)
    heads = [head(n) for n in (model.num_classes, model.vocabulary_size, 2)]
    peer = nn.ModuleList([vit, positions, words, segments, dropout, *heads]).train()
    optimizer = torch.optim.AdamW(peer.parameters(), lr=config.optimizer.learning_rate, fused=True)

    theirs = {name: torch.tensor(value.numpy()) for name, value in batch.items()}
    theirs = {n: x if x.is_floating_point() else x.long() for n, x in theirs.items()}
    pixels = theirs["images"].permute(0, 3, 1, 2).contiguous()
    numbers = torch.arange(len(theirs["token_ids"]))[:, None]

    def loss():
        images = vit(pixels).last_hidden_state
        x = words(theirs["token_ids"]) + segments(theirs["segment_ids"]) + positions.weight
        x = dropout(x)
        for block in blocks:
            x = block(x)
            x = x[0] if isinstance(x, tuple) else x
        x = vit.layernorm(x)
        of_images, of_words, of_pairs = heads
        masked = of_words(x[numbers, theirs["masked_positions"]]).flatten(0, 1)
        answers = (
            (of_images(images[:, 0]), theirs["image_labels"]),
            (masked, theirs["masked_ids"].flatten()),
            (of_pairs(x[:, 0]), theirs["next_sentence_labels"]),
        )
        return sum(nn.functional.cross_entropy(a.float(), labels) for a, labels in answers)

    def step():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "mixed_bfloat16"):
            total = loss()
        total.backward()
        nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        optimizer.step()
        total.item()

    return step, sum(p.numel() for p in peer.parameters())


def main() -> None:
    """Runs the benchmark."""
    command(__doc__, rows)


if __name__ == "__main__":
    main()

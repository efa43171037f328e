"""The joint step beside PyTorch's with transformers' blocks, in turns.

    python -m benchmarks.joint_peer [--size=base] [--images=8] [--texts=1] [--rounds=9]
                                    [--dtype=float32] [--apart]

Both have the same sizes, dropout, heads, clip and AdamW. PyTorch's step also has one encoder, made
of a `ViTModel`'s blocks, and one backward pass of the sum of the losses. Ours has two gradients and
merges them by masks (the paper's step). With `mixed_bfloat16` PyTorch uses its autocast. With
`--apart` each turn has a process of its own: with 32 images in float32, both sides together need
more than 24 GB. It needs the extra `parity`.

PyTorch's time depends on the C library's `malloc`, which gives the memory of a step back to the
system afterwards. `python -m benchmarks --only=joint_bfloat16_keeping` lets both sides keep it.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys

import torch
import transformers
from torch import nn

from benchmarks.products import joint_products, joint_step_flops
from benchmarks.speed_table import Row
from benchmarks.steps import compiled_step, in_turns, random_batch, sized, step_parser
from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.merges import Merge
from keras_vitbert.merging import get_merge

SIDES = ("ours", "peer", "products")


class _Peer(nn.Module):
    """The same network, made of transformers' blocks."""

    def __init__(self, model):
        super().__init__()
        width, rate = model.hidden_dim, model.dropout
        self.vit = transformers.ViTModel(
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
        self.words = nn.Embedding(model.vocabulary_size, width)
        self.segments = nn.Embedding(2, width)
        self.positions = nn.Parameter(torch.randn(1, model.max_sequence_length, width) * 0.02)
        self.dropout = nn.Dropout(rate)

        def head(classes):
            hidden = nn.Linear(width, width)
            return nn.Sequential(hidden, nn.GELU(), nn.Dropout(rate), nn.Linear(width, classes))

        self.image_head = head(model.num_classes)
        self.masked_head, self.next_head = head(model.vocabulary_size), head(2)

    def loss(self, batch):
        """The sum of the three losses."""
        images = self.vit(batch["images"]).last_hidden_state
        x = self.words(batch["token_ids"]) + self.segments(batch["segment_ids"]) + self.positions
        x = self.dropout(x)
        for layer in self._layers():
            x = layer(x)
            x = x[0] if isinstance(x, tuple) else x
        texts = self.vit.layernorm(x)
        rows = torch.arange(len(texts))[:, None]
        masked = self.masked_head(texts[rows, batch["masked_positions"]])
        entropy = nn.functional.cross_entropy
        return (
            entropy(self.image_head(images[:, 0]).float(), batch["image_labels"])
            + entropy(masked.flatten(0, 1).float(), batch["masked_ids"].flatten())
            + entropy(self.next_head(texts[:, 0]).float(), batch["next_sentence_labels"])
        )

    def _layers(self):
        encoder = getattr(self.vit, "encoder", self.vit)
        return getattr(encoder, "layer", None) or encoder.layers


def _peer_step(model, dtype, rate):
    peer = _Peer(model).train()
    optimizer = torch.optim.AdamW(peer.parameters(), lr=rate, fused=True)
    reduced = dtype == "mixed_bfloat16"

    def step(batch):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            loss = peer.loss(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step, sum(p.numel() for p in peer.parameters())


def _made(side, asked):
    """A side: a callable that runs its step and waits for it, and what is reported of it.

    Args:
        side: str, `ours`, `peer` or `products`, those of ours alone.
        asked: namespace of `size`, `dtype`, `images` and `texts`.

    Returns:
        callable without arguments, and what is reported: for `ours` its parameters and the
        operations of its step, for `peer` its parameters, for `products` their operations.
    """
    if side == "ours":
        config, network, batch = sized(asked, asked.dtype)
        step = compiled_step(network, get_merge(Merge(name="mask")), config)
        flops = joint_step_flops(network, asked.images, asked.texts, *_lengths(batch))
        parameters = sum(math.prod(v.shape) for v in network.trainable_variables)
        return lambda: step(batch), (parameters, flops)
    config = load_config(f"paper:{asked.size}").with_sizes()
    ours = random_batch(config.model, asked.images, asked.texts)
    if side == "products":
        operands = "float32" if asked.dtype == "float32" else "bfloat16"
        sizes = asked.images, asked.texts, *_lengths(ours)
        run, operations = joint_products(config.model, *sizes, operands)
        return lambda: run(None), operations
    theirs = {name: torch.tensor(value.numpy()) for name, value in ours.items()}
    theirs = {n: x if x.is_floating_point() else x.long() for n, x in theirs.items()}
    theirs["images"] = theirs["images"].permute(0, 3, 1, 2).contiguous()
    peer, parameters = _peer_step(config.model, asked.dtype, config.optimizer.learning_rate)
    return lambda: peer(theirs), parameters


def _lengths(batch):
    """The tokens of a text, and how many of them are masked."""
    return batch["token_ids"].shape[1], batch["masked_ids"].shape[1]


def _timed(asked, rounds):
    """Times all sides in turns: list of dict of a side to seconds, and what `_made` reports."""
    made = {side: _made(side, asked) for side in SIDES}
    steps = {side: lambda _, run=run: run() for side, (run, _) in made.items()}
    return list(in_turns(steps, None, rounds)), {side: told for side, (_, told) in made.items()}


def _timed_apart(asked, rounds):
    """The same with a process for each turn, which needs the memory of only one side."""
    told = {}

    def turn(side):
        flags = (f"--{name}={value}" for name, value in vars(asked).items())
        command = [sys.executable, "-m", "benchmarks.joint_peer", *flags, f"--side={side}"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds, told[side] = json.loads(done.stdout.splitlines()[-1])
        return seconds

    found = [
        {side: turn(side) for side in SIDES[:: 1 if number % 2 else -1]} for number in range(rounds)
    ]
    return found, told


def compared(size, dtype, images, texts, rounds, apart=False):
    """Times both steps, and the products of ours alone, in turns.

    Args:
        size: str, an encoder of `keras_vitbert.configs.model`.
        dtype: str, `float32` or `mixed_bfloat16`.
        images, texts: int, of a step.
        rounds: int.
        apart: bool, whether each turn has a process of its own, in which one step comes first.

    Returns:
        dict: `ours`, `peer` and `floor`, median seconds; `ratios`, sorted, of the peer's to ours;
        `parameters`, of ours and of the peer; `rate`, operations a second of products.
    """
    asked = argparse.Namespace(size=size, dtype=dtype, images=images, texts=texts)
    found, told = (_timed_apart if apart else _timed)(asked, rounds)
    middle = {side: statistics.median(r[side] for r in found) for side in SIDES}
    rate = told["products"] / middle.pop("products")
    own, flops = told["ours"]
    ratios = sorted(seconds["peer"] / seconds["ours"] for seconds in found)
    parameters = own, told["peer"]
    floor = flops / rate
    return {**middle, "floor": floor, "ratios": ratios, "parameters": parameters, "rate": rate}


def rows(size, dtype, images, texts, rounds, target, apart, more):
    """The row of `python -m benchmarks`: list of one `Row`."""
    found = compared(size, dtype, images, texts, rounds, apart)
    ratios = found["ratios"]
    return [
        Row(
            f"joint step, {size}, {dtype}, {images} images and {texts} texts{more}",
            found["ours"],
            peer=found["peer"],
            ratio=statistics.median(ratios),
            ceiling=found["floor"],
            at_least=target,
            note=f"{len(ratios)} ratios from {ratios[0]:.2f} to {ratios[-1]:.2f}; the ceiling is "
            f"its products at {found['rate'] / 1e9:.0f} GFLOP/s, as measured alone",
        )
    ]


def main():
    """Runs the benchmark."""
    parser = step_parser(__doc__, texts=1)
    parser.add_argument("--dtype", default="float32", help="or mixed_bfloat16")
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)  # of this process
    asked = parser.parse_args()
    if asked.side:
        run, told = _made(asked.side, asked)
        [seconds] = in_turns({asked.side: lambda _: run()}, None, 1)
        print(json.dumps([seconds[asked.side], told]))
        return
    sizes = asked.images, asked.texts, asked.rounds
    found = compared(asked.size, asked.dtype, *sizes, asked.apart)
    own, parameters = found["parameters"]
    ratios = found["ratios"]
    print(
        f"{asked.size}, {asked.dtype}, {asked.images} images and {asked.texts} texts: "
        f"{own / 1e6:.1f} and {parameters / 1e6:.1f} M parameters\n"
        f"ours {found['ours']:.2f} s, PyTorch {found['peer']:.2f} s: "
        f"{statistics.median(ratios):.2f} times as fast ({ratios[0]:.2f} to {ratios[-1]:.2f})\n"
        f"the products of ours alone {found['floor']:.2f} s ({found['rate'] / 1e9:.0f} GFLOP/s), "
        f"{found['floor'] / found['ours']:.0%} of its step"
    )


if __name__ == "__main__":
    main()

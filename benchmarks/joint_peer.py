"""The joint step beside that of PyTorch with blocks of transformers, in turns in one process.

    python -m benchmarks.joint_peer [--size=base] [--images=8] [--texts=1] [--rounds=9]
                                    [--dtype=float32]

Both have the same sizes, dropout, heads, clip and AdamW. PyTorch's has one encoder, too, made of a
`ViTModel`'s blocks, and one backward pass of the sum of the losses; ours has two gradients and
merges them by masks (the paper's step). With `mixed_bfloat16` PyTorch computes by its autocast. It
needs the extra `parity`.
"""

import argparse
import math
import statistics

import torch
import transformers
from torch import nn

from benchmarks.products import joint_products, joint_step_flops
from benchmarks.speed_table import Row
from benchmarks.steps import compiled_step, in_turns, sized, step_parser
from keras_vitbert.merging import get_merge


class _Peer(nn.Module):
    """The same network of transformers' blocks."""

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


def compared(size, dtype, images, texts, rounds):
    """Times both steps, and the products of ours alone, in turns.

    Args:
        size: str, an encoder of `keras_vitbert.configs.sizes`.
        dtype: str, `float32` or `mixed_bfloat16`.
        images, texts: int, of a step.
        rounds: int.

    Returns:
        dict: `ours`, `peer` and `floor`, median seconds; `ratios`, sorted, of the peer's to ours;
        `parameters`, of ours and of the peer; `rate`, operations a second of products.
    """
    asked = argparse.Namespace(size=size, images=images, texts=texts)
    config, network, ours = sized(asked, dtype)
    theirs = {name: torch.tensor(value.numpy()) for name, value in ours.items()}
    theirs = {n: x if x.is_floating_point() else x.long() for n, x in theirs.items()}
    theirs["images"] = theirs["images"].permute(0, 3, 1, 2).contiguous()
    step = compiled_step(network, get_merge({"name": "mask"}), config)
    peer, parameters = _peer_step(config.model, dtype, config.optimizer.learning_rate)
    own = sum(math.prod(v.shape) for v in network.trainable_variables)
    lengths = ours["token_ids"].shape[1], ours["masked_ids"].shape[1]
    operands = "float32" if dtype == "float32" else "bfloat16"
    products, operations = joint_products(config.model, images, texts, *lengths, operands)
    steps = {"ours": lambda _: step(ours), "peer": lambda _: peer(theirs), "products": products}
    found = list(in_turns(steps, None, rounds))
    middle = {name: statistics.median(r[name] for r in found) for name in steps}
    rate = operations / middle.pop("products")
    floor = joint_step_flops(network, images, texts, *lengths) / rate
    ratios = sorted(seconds["peer"] / seconds["ours"] for seconds in found)
    parameters = own, parameters
    return {**middle, "floor": floor, "ratios": ratios, "parameters": parameters, "rate": rate}


def rows(size, dtype, images, texts, rounds, target):
    """The row of `python -m benchmarks`: list of one `Row`."""
    found = compared(size, dtype, images, texts, rounds)
    ratios = found["ratios"]
    return [
        Row(
            f"joint step, {size}, {dtype}, {images} images and {texts} texts",
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
    asked = parser.parse_args()
    found = compared(asked.size, asked.dtype, asked.images, asked.texts, asked.rounds)
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

"""One machine with a GPU: the joint step on both backends, PyTorch's beside it, the sample run.

    python -m benchmarks.gpu [--size=base] [--images=32] [--texts=4] [--steps=30]
                             [--dtype=mixed_bfloat16] [--only=tensorflow,jax,...] [--quick]

prints a table in Markdown. Each row is a process of its own, on the first GPU, or on the CPU where
its package finds no GPU:

    tensorflow, jax  the paper's step, as `pretrain` runs it: a gradient of each loss, merged by
                     masks; dropout, clip and AdamW
    eager, compiled  PyTorch, without and with `torch.compile`: one encoder of the same size, of the
                     blocks of transformers' `ViTModel`, and one backward pass of the sum of the
                     losses; heads, dropout, clip, AdamW are the same. The extra `parity` has both
    sample           the README's first run, from new data to its end, on TensorFlow

A step is the median after the first three, batches come from the host each time. "Peak" is what the
GPU's allocator held at most; of a CPU, the memory of the process. MFU (Chowdhery et al. 2022) is
the share of the GPU's peak operations a second that the model's products take, however many more
PyTorch makes of the tokens that no head reads. What is not installed, or fails, says so in its row.
`--quick` uses tiny sizes, and ten steps of the sample.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.speed_table import Outcome, aligned, outcome
from benchmarks.steps import compiled_trainer, paper_config, random_batch
from tpu.devices import gpu_peak

SIDES = {
    "tensorflow": "TensorFlow",
    "jax": "JAX",
    "eager": "PyTorch, eager",
    "compiled": "PyTorch, compiled",
    "sample": "the sample run",
}
HEADER = ("what", "device", "first step", "a step", "peak", "MFU", "")
QUICK = {"size": "sample", "images": 4, "texts": 2, "steps": 5}
QUICK_SAMPLE = [
    "--config.steps=10",
    "--config.optimizer.warmup_steps=1",
    "--config.merge.mask_update_interval=1",
    "--config.teachers.image_steps=10",
    "--config.teachers.text_steps=10",
]
WARM = 3  # steps


def measured(name: str, values: argparse.Namespace) -> dict:
    """The figures of a side, in a process of its own."""
    if name == "sample":
        return _sample(values.quick)
    config = paper_config(values.size)
    batch = random_batch(config.model, values.images, values.texts)
    side = _ours if name in ("tensorflow", "jax") else _pytorch
    ends, more = side(name, config, batch, values.dtype, values.steps + WARM)
    seconds = [after - before for before, after in zip(ends, ends[1:], strict=False)]
    return {"first": seconds[0], "step": statistics.median(seconds[WARM:]), **more}


def _ours(name, config, batch, dtype, steps):
    """Ends of a backend's steps."""
    from pipelines.command_line import choose_backend

    choose_backend(name)
    import keras
    import tensorflow as tf

    from keras_vitbert.model.flops import TRAINING, image_flops, text_flops
    from keras_vitbert.runs.machine import open_machine
    from tpu.devices import gpus

    machine = open_machine()
    with machine.strategy.scope():
        jit_compile = machine.devices.jit_compile("auto") == "on"
        trainer = compiled_trainer(config, dtype, jit_compile)
    ends = []
    clock = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: ends.append(time.perf_counter()),
        on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()),
    )
    batches = machine.strategy.distribute_datasets_from_function(
        lambda _: tf.data.Dataset.from_tensors(batch).repeat()
    )
    trainer.fit(batches, steps_per_epoch=steps, callbacks=[clock], shuffle=False, verbose=0)
    backbone, (texts, length) = trainer.network.backbone, batch["token_ids"].shape
    flops = len(batch["images"]) * image_flops(backbone, config.model.num_classes)
    flops += texts * text_flops(backbone, length, batch["masked_ids"].shape[1])
    device, peak = "CPU", _peak_of_process()
    if found := gpus():
        device = found[0][0] or "GPU"
        if name == "jax":
            peak = machine.strategy.devices[0].memory_stats()["peak_bytes_in_use"]
        else:
            peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return ends, {"device": device, "peak": peak, "flops": TRAINING * flops}


def _pytorch(name, config, batch, dtype, steps):
    """Ends of steps of a network of transformers' blocks."""
    import torch
    import transformers
    from torch import nn

    model = config.model
    width, rate = model.hidden_dim, model.dropout
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    torch.set_float32_matmul_precision("high")  # TF32, as TensorFlow
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
    peer = nn.ModuleList([vit, positions, words, segments, dropout, *heads]).to(device).train()
    optimizer = torch.optim.AdamW(peer.parameters(), lr=config.optimizer.learning_rate, fused=True)

    on_host = {name: torch.tensor(value) for name, value in batch.items()}
    on_host = {n: x if x.is_floating_point() else x.long() for n, x in on_host.items()}
    on_host["images"] = on_host["images"].permute(0, 3, 1, 2).contiguous()
    numbers = torch.arange(len(on_host["token_ids"]), device=device)[:, None]

    def loss(theirs):
        images = vit(theirs["images"]).last_hidden_state
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

    total_loss = torch.compile(loss) if name == "compiled" else loss
    ends = [time.perf_counter()]
    for _ in range(steps):
        optimizer.zero_grad()
        theirs = {name: value.to(device) for name, value in on_host.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "mixed_bfloat16"):
            total = total_loss(theirs)
        total.backward()
        nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        optimizer.step()
        if on_gpu:
            torch.cuda.synchronize()
        ends.append(time.perf_counter())
    if on_gpu:
        kind, peak = torch.cuda.get_device_name(), torch.cuda.max_memory_allocated()
        return ends, {"device": kind, "peak": peak}
    return ends, {"device": "CPU", "peak": _peak_of_process()}


def _peak_of_process():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _sample(quick):
    """How long the README's run takes, and what it ends with."""
    with tempfile.TemporaryDirectory() as folder:
        flags = [f"--output_dir={folder}/run", *QUICK_SAMPLE * quick]
        command = [sys.executable, "-m", "keras_vitbert.pretrain", *flags]
        began = time.monotonic()
        if status := subprocess.run(command, stdout=sys.stderr).returncode:
            sys.exit(status)  # its last line says why
        seconds = time.monotonic() - began
        ended = json.loads(Path(folder, "run", "summary.json").read_text())["validation"]
    accuracy, loss = ended["image_accuracy"], ended["mlm_loss"]
    return {"note": f"{seconds:.0f} s; image accuracy {accuracy:.4f}, masked-LM loss {loss:.4f}"}


def cells(name: str, found: Outcome, flops: float | None, dtype: str) -> list[str]:
    """A row of the table."""
    values = found.value or {}
    step, device = values.get("step"), values.get("device", "")
    peak, mfu = gpu_peak(device, dtype), ""
    if step and flops and peak:
        mfu = f"{flops / step / peak:.0%}"
    note = values.get("note", "") or found.left_out or (found.failed and f"failed: {found.failed}")
    return [
        SIDES[name],
        device,
        f"{values['first']:.1f} s" if step else "",
        f"{1000 * step:,.0f} ms" if step else "",
        f"{values['peak'] / 1e9:.2f} GB" if step else "",
        mfu,
        note,
    ]


def main() -> int:
    """Runs all sides and prints their table, or one of them; returns the exit status."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("gpu", description=__doc__, formatter_class=layout)
    parser.add_argument("--size", default="base")
    for name, default in (("images", 32), ("texts", 4), ("steps", 30)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", default="mixed_bfloat16", help="or float32")
    parser.add_argument("--only", default=",".join(SIDES), help="comma-separated rows")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--row", choices=SIDES, help="measure one here, and print JSON")
    values = parser.parse_args()
    if values.quick:
        vars(values).update(QUICK)
    if values.row:
        print(json.dumps(measured(values.row, values)))
        return 0
    names = values.only.split(",")
    if unknown := set(names) - set(SIDES):
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}; of {', '.join(SIDES)}")
    one_gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    found = {}
    for name in names:
        command = [sys.executable, "-m", "benchmarks.gpu", f"--row={name}", *sys.argv[1:]]
        found[name] = outcome(command, {"CUDA_VISIBLE_DEVICES": one_gpu})
        print(f"{name}: {found[name].seconds:.0f} s", file=sys.stderr, flush=True)
    flops = next((x.value["flops"] for x in found.values() if "flops" in (x.value or {})), None)
    sizes = f"{values.size}, {values.images} images and {values.texts} texts, {values.dtype}"
    print(f"{sizes}, {values.steps} steps\n")
    rows = [cells(name, each, flops, values.dtype) for name, each in found.items()]
    print("\n".join(aligned(HEADER, rows)))
    return int(any(each.failed for each in found.values()))


if __name__ == "__main__":
    sys.exit(main())

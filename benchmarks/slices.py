"""Compares the engines on TPU slices: the compiled training step of `tpu.aot`, in one table.

    python -m benchmarks.slices --folder=DIR [--tpus=v3-128,v4-8,v5litepod-16,v6e-8]
                                [--sizes=base,large] [--variant=vitbert] [--images=32] [--texts=4]
                                [--known]

`--images` and `--texts` are those of a replica. A step of the paper takes 5 to 20 minutes and some
13 GB. What is in the folder already is not compiled again, and `--known` shows that alone.
"""

import argparse
import itertools
import os
import subprocess
import sys
from pathlib import Path

from pipelines.files import json_object, markdown_table
from tpu.ahead_of_time.report import GIB
from tpu.slices import find_slice

ENGINES = {
    "TensorFlow": (),
    "JAX": ("--backend=jax",),
    "JAX, fsdp": ("--backend=jax", "--config.sharding=fsdp"),
}
_HEAD = ["encoder", "slice", "engine", "peak", "operations", "moved", "collectives", "compiled in"]


def compiled(path, command):
    """Compiles a step, unless its outcome is there.

    Args:
        path: `pathlib.Path`, of the outcome.
        command: list of str, without the flag for it.

    Returns:
        dict, what `tpu.aot --json` writes.
    """
    if not path.exists():
        made = path.with_suffix(".part")
        done = subprocess.run([*command, f"--json={made}"], stdout=subprocess.DEVNULL)
        if not made.exists():  # a step that does not fit has an outcome, too
            raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}")
        os.replace(made, path)
    return json_object(path.read_text())


def row(outcome):
    """What a table says of a training step: list of str."""
    result = outcome["programs"]["train"]
    took = f"{result['seconds']:.0f} s"
    if not result["fits"]:
        needed, available = (result[name] / GIB for name in ("needed", "available"))
        return [f"{needed:.2f} GiB, of {available:.2f}", "", "", "", took]
    collectives = ", ".join(
        f"{kind} {found['bytes'] / 1e9:.3g} GB in {found['count']}"
        for kind, found in sorted(result["collectives"].items())
    )
    return [
        f"{result['peak'] / GIB:.2f} of {result['available'] / GIB:.2f} GiB",
        f"{result['operations'] / 1e12:.3g} T",
        f"{result['bytes'] / 1e9:.3g} GB",
        collectives,
        took,
    ]


def main():
    """Compiles what is missing, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--tpus", default="v3-128,v4-8,v5litepod-16,v6e-8")
    parser.add_argument("--sizes", default="base,large")
    parser.add_argument("--variant", default="vitbert")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--texts", type=int, default=4)
    parser.add_argument("--known", action="store_true", help="compile nothing")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for size, tpu, engine in itertools.product(
        arguments.sizes.split(","), arguments.tpus.split(","), ENGINES
    ):
        replicas = find_slice(tpu).replicas
        command = [sys.executable, "-m", "tpu.aot", f"--tpu={tpu}", f"--config=paper:{size}"]
        command += [f"--config.image_batch={arguments.images * replicas}"]
        command += [f"--config.text_batch={arguments.texts * replicas}"]
        command += ["--programs=train", f"--variant={arguments.variant}", *ENGINES[engine]]
        path = arguments.folder / f"{size}-{tpu}-{engine.lower().replace(', ', '-')}.json"
        if path.exists() or not arguments.known:
            rows.append([size, f"`{tpu}`", engine, *row(compiled(path, command))])
            print(*rows[-1], flush=True)
    print(markdown_table(_HEAD, rows))


if __name__ == "__main__":
    main()

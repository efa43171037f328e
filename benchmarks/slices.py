"""Compares the backends on TPU slices: the compiled training step of `aot`, in one table.

    python -m benchmarks.slices [--results=docs/slices.json]
                                [--tpus=v3-128,v4-8,v5litepod-16,v6e-8] [--sizes=base,large]
                                [--variant=vitbert] [--images=32] [--texts=4] [--known]

`--images` and `--texts` are those of a replica. A step takes 2 to 24 minutes to compile, and one of
the large model some 22 GB of memory. What the results hold is not compiled again, and `--known`
shows only that.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from keras_vitbert.extras.ahead_of_time.aot_compile import GIB, collectives_text
from pipelines.files import json_object, write_atomically
from pipelines.status import say
from pipelines.text_tables import markdown_table
from tpu.slices import find_slice

BACKENDS = {
    "TensorFlow": (),
    "JAX": ("--backend=jax",),
    "JAX, fsdp": ("--backend=jax", "--config.sharding=fsdp"),
}
_KEPT = ("fits", "peak", "needed", "available", "operations", "bytes", "collectives", "seconds")
_HEAD = ["encoder", "slice", "backend", "peak", "operations", "moved", "collectives", "compiled in"]


def compiled(command):
    """Compiles a step.

    Args:
        command: list of str, without the flag for its outcome.

    Returns:
        dict, what is kept of the training step.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "outcome.json")
        done = subprocess.run([*command, f"--json={path}"], stdout=subprocess.DEVNULL)
        if not path.exists():  # a step that does not fit has an outcome, too
            raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}")
        result = json_object(path.read_text())["programs"]["train"]
    return {name: result[name] for name in _KEPT if name in result}


def row(result):
    """What a table says about a training step: list of str."""
    took = f"{result['seconds']:.0f} s"
    if not result["fits"]:
        needed, available = (result[name] / GIB for name in ("needed", "available"))
        return [f"{needed:.2f} GiB, of {available:.2f}", "", "", "", took]
    return [
        f"{result['peak'] / GIB:.2f} of {result['available'] / GIB:.2f} GiB",
        f"{result['operations'] / 1e12:.3g} T",
        f"{result['bytes'] / 1e9:.3g} GB",
        collectives_text(result),
        took,
    ]


def main():
    """Compiles what is missing, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, default=Path("docs/slices.json"))
    parser.add_argument("--tpus", default="v3-128,v4-8,v5litepod-16,v6e-8")
    parser.add_argument("--sizes", default="base,large")
    parser.add_argument("--variant", default="vitbert")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--texts", type=int, default=4)
    parser.add_argument("--known", action="store_true", help="compile nothing")
    arguments = parser.parse_args()
    path = arguments.results
    known = json_object(path.read_text()) if path.exists() else {}
    named = {}
    for size, tpu, backend in itertools.product(
        arguments.sizes.split(","), arguments.tpus.split(","), BACKENDS
    ):
        replicas = find_slice(tpu).replicas
        flags = [f"--tpu={tpu}", f"--config=paper:{size}", "--programs=train"]
        flags += [f"--config.image_batch_size={arguments.images * replicas}"]
        flags += [f"--config.text_batch_size={arguments.texts * replicas}"]
        flags += [f"--variant={arguments.variant}", *BACKENDS[backend]]
        name = " ".join(flags)
        if name not in known and not arguments.known:
            known[name] = compiled([sys.executable, "-m", "keras_vitbert.aot", *flags])
            write_atomically(str(path), json.dumps(known, indent=1) + "\n")
            say(" ".join([size, tpu, backend, *row(known[name])]))
        named[name] = [size, f"`{tpu}`", backend]
    rows = [[*names, *row(known[name])] for name, names in named.items() if name in known]
    print(markdown_table(_HEAD, rows))


if __name__ == "__main__":
    main()

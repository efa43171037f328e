"""Compiles a program for a TPU without having one, with the compiler for TPUs (libtpu).

    python -m keras_vitbert.extras.ahead_of_time.compiler ACCELERATOR_TYPE [whole] < PROGRAM.mlir

prints one line of JSON. It is a separate program: libtpu and TensorFlow do not work well in one
process, and its end frees the memory of the compilation. JAX has the bindings.
"""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import Any

from keras_vitbert.extras.ahead_of_time.collectives import collectives_of
from pipelines.command_line import install
from tpu.slices import Slice, find_slice

ENVIRONMENT = {  # else libtpu looks for a TPU for minutes, and only one process may use it
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_STDERR_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
_SIZE = r"([\d.]+)([KMGT]?)"
_OUT_OF_MEMORY = (
    re.compile(rf"Used {_SIZE} of {_SIZE} hbm"),
    re.compile(rf"\({_SIZE}\) exceeds available HBM \({_SIZE}\)"),
)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

# It needs more memory than any TPU has: the error message says how much there is.
_TOO_LARGE = """
module @too_large {
  func.func public @main(%x: tensor<1048576x1048576xf32>) -> tensor<1048576x1048576xf32> {
    return %x : tensor<1048576x1048576xf32>
  }
}
"""


def check_installed() -> None:
    """Refuses to begin without the compiler."""
    for package in ("jax", "libtpu"):
        if importlib.util.find_spec(package) is None:
            raise ValueError(
                f"the TPU's compiler needs the package {package}; run: {install('aot')}, on Linux "
                "with an x86-64 processor"
            )


def compile_apart(program: bytes, slice_: Slice, is_whole: bool = False) -> dict[str, Any]:
    """The result of `compile_program`, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, slice_.accelerator_type, *["whole"] * is_whole],
        input=program,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    said = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
    if done.returncode == -signal.SIGKILL:
        said = ["killed, most likely because this machine has too little memory"]
    raise ValueError(f"the compiler for {slice_.accelerator_type} fails: {said[-1][:500]}")


def compile_program(program: bytes | str, slice_: Slice, is_whole: bool = False) -> dict[str, Any]:
    """Compiles a StableHLO module for all replicas of a slice, as JAX's are, or for one.

    Returns:
        `fits`, `seconds`, and `available`, the bytes of memory that a program may use on one
        replica. If it does not fit, `needed` bytes. If it does, for one step on one replica:
        `peak`, `arguments` and `temporaries` in bytes; `operations` (floating-point); `bytes` moved
        to and from memory; and `collectives`, see `collectives_of`.
    """
    began = time.time()
    try:
        executable = _compile(program, slice_, is_whole)
    except Exception as error:
        needed, available = _refusal(error)
        seconds = round(time.time() - began, 1)
        return {"fits": False, "seconds": seconds, "needed": needed, "available": available}
    seconds = round(time.time() - began, 1)
    memory, cost = executable.get_compiled_memory_stats(), executable.cost_analysis()
    return {
        "fits": True,
        "seconds": seconds,
        "available": available_memory(slice_),
        "peak": memory.peak_memory_in_bytes,
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "operations": cost["flops"],
        "bytes": cost["bytes accessed"],
        "collectives": collectives_of(executable.hlo_modules()[0].to_string()),
    }


def available_memory(slice_: Slice) -> int:
    """The bytes of memory that a program may use on one replica."""
    try:
        _compile(_TOO_LARGE, slice_)
    except Exception as error:
        return _refusal(error)[1]
    raise RuntimeError(f"{slice_.accelerator_type} takes a program of 4 TiB")


def parse(program: bytes | str) -> Any:
    """Parses a StableHLO module of TensorFlow for other compilers: `jaxlib.mlir.ir.Module`.

    TensorFlow's bridge marks returned values with `mhlo.copy`, which is the identity. It also draws
    random numbers with Philox, while a TPU's own bridge lets the TPU choose; see `_let_tpu_choose`.
    """
    from jax._src.interpreters import mlir
    from jaxlib.mlir import ir

    context = mlir.make_ir_context()
    with context, ir.Location.unknown():
        module = ir.Module.parse(program)
        replaced = {"mhlo.copy": _remove_copy, "stablehlo.rng_bit_generator": _let_tpu_choose}
        operations = []  # a walk must not change what it walks over

        def visit(operation: Any) -> Any:
            if operation.name in replaced:
                operations.append(operation)
            return ir.WalkResult.ADVANCE

        module.operation.walk(visit)
        for operation in operations:
            replaced[operation.name](operation)
        if "sym_name" not in module.operation.attributes:
            module.operation.attributes["sym_name"] = ir.StringAttr.get("step")
    return module


def _remove_copy(copy: Any) -> None:
    copy.results[0].replace_all_uses_with(copy.operands[0])
    copy.erase()


def _let_tpu_choose(generator: Any) -> None:
    """Draws random numbers with the TPU's own algorithm, which is far cheaper there.

    Its state is two words; Philox has a third, which is passed on unchanged.
    """
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import stablehlo

    [state] = generator.operands
    [words] = ir.RankedTensorType(state.type).shape
    kind = ir.RankedTensorType(state.type).element_type

    def part(begin: int, end: int) -> Any:
        places = [ir.DenseI64ArrayAttr.get([place]) for place in (begin, end, 1)]
        return stablehlo.SliceOp(state, *places).result

    with ir.InsertionPoint(generator):
        default = stablehlo.RngBitGeneratorOp(
            ir.RankedTensorType.get([2], kind),
            generator.results[1].type,
            ir.Attribute.parse("#stablehlo<rng_algorithm DEFAULT>"),
            part(0, 2),
        )
        after = default.results[0]
        if words > 2:
            after = stablehlo.ConcatenateOp([after, part(2, words)], 0).result
    generator.results[0].replace_all_uses_with(after)
    generator.results[1].replace_all_uses_with(default.results[1])
    generator.erase()


def topology_options(slice_: Slice) -> dict[str, Any]:
    """The arguments of `jax.experimental.topologies.get_topology_desc` that describe a slice."""
    options = {
        "topology_name": f"{slice_.generation}:{slice_.topology_name}",
        "chips_per_host_bounds": (*slice_.topology, 1)[:3] if slice_.hosts == 1 else (2, 2, 1),
    }
    if slice_.generation == "v4":  # else it has one device per core
        options["chip_config_name"] = "megacore"
    return options


def _compile(program: bytes | str, slice_: Slice, is_whole: bool = False) -> Any:
    import numpy as np
    from jax._src import compiler
    from jax.experimental import topologies
    from jaxlib import xla_client

    topology = topologies.get_topology_desc(platform="tpu", **topology_options(slice_))
    devices = tuple(topology.devices)
    count = len(devices)
    replicas, partitions = (1, count) if is_whole else (count, 1)
    options = compiler.get_compile_options(
        num_replicas=replicas,
        num_partitions=partitions,
        device_assignment=np.arange(count).reshape(replicas, partitions),
    )
    module = parse(program)
    with module.context:
        return compiler.backend_compile_and_load(
            devices[0].client, module, xla_client.DeviceList(devices), options, []
        )


def _refusal(error: Exception) -> tuple[int, int]:
    """(bytes needed, bytes available) of an out-of-memory error; raises any other error."""
    for pattern in _OUT_OF_MEMORY:
        if match := pattern.search(str(error)):
            used, used_unit, limit, limit_unit = match.groups()
            return round(float(used) * _UNITS[used_unit]), round(float(limit) * _UNITS[limit_unit])
    raise error


if __name__ == "__main__":
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    name, *whole = sys.argv[1:]
    print(json.dumps(compile_program(sys.stdin.buffer.read(), find_slice(name), bool(whole))))

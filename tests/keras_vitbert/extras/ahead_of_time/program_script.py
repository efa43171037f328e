"""Runs a program that was traced for eight replicas of a TPU, by JAX on eight CPU devices.

python -m tests.keras_vitbert.extras.ahead_of_time.program_script FOLDER
"""

import os
import pathlib
import sys

import numpy as np

REPLICAS = 8


def main(folder):
    """Of `program.mlir`, from `batch.npz` and `before.npz`; writes `found.npz`.

    That holds by the name of a variable its values on all replicas.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={REPLICAS}"
    import jax
    from jax._src import compiler
    from jax._src.lib import xla_client

    from keras_vitbert.extras.ahead_of_time.compiler import parse

    jax.config.update("jax_enable_x64", True)  # the optimiser counts in 64 bits
    devices = jax.devices()
    module = parse((folder / "program.mlir").read_bytes())
    options = compiler.get_compile_options(
        num_replicas=REPLICAS,
        num_partitions=1,
        device_assignment=np.arange(REPLICAS)[:, np.newaxis],
    )
    with module.context:
        aliases = {
            int(alias["alias"]["parameter_number"]): int(list(alias["output_index"])[0])
            for alias in module.operation.attributes["mhlo.input_output_alias"]
        }
        executable = compiler.backend_compile_and_load(
            devices[0].client, module, xla_client.DeviceList(tuple(devices)), options, []
        )
    batch, before = np.load(folder / "batch.npz"), np.load(folder / "before.npz")
    mesh = jax.sharding.Mesh(np.array(devices), ["replica"])

    def placed(value, *axes):
        return jax.device_put(value, jax.NamedSharding(mesh, jax.P(*axes)))

    arguments = [placed(batch[name], "replica") for name in sorted(batch.files)]
    arguments += [placed(before[name]) for name in before.files]
    results = executable.execute_sharded(arguments).disassemble_into_single_device_arrays()
    after = {
        before.files[parameter - len(batch.files)]: np.stack([*map(np.asarray, results[output])])
        for parameter, output in aliases.items()
    }
    np.savez(folder / "found.npz", **after)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))

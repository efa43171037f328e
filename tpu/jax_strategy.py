"""JAX's devices as the strategy of a run: the part of `tf.distribute.Strategy` that is used here.

A batch is one array, divided along its first axis over a mesh of all devices. Several processes,
one per host, run the same program.

- `replicated`: every device has all weights and moments. A step is the program of one device. It
  sees its share of the batch and sums over the others explicitly, as on TensorFlow.
- `fsdp`: every device has a part of each (Zhao et al. 2023, "PyTorch FSDP"; ZeRO's third stage).
  Passes are programs of one device. It gathers the weights that they read, and gets only its part
  of each summed gradient. The merge and the update are functions of whole arrays, which XLA divides
  according to how they are placed.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import tensorflow as tf
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pipelines.command_line import one_line
from tpu.slices import Slice

if TYPE_CHECKING:
    from jaxlib._jax import Device

DATA = "data"  # the axis of the mesh that a batch is divided along
# A part with fewer entries takes no less of a TPU's memory, and gathering it takes much time.
TILE = 1024
_SAME, _DIVIDED = PartitionSpec(), PartitionSpec(DATA)  # on every device; along the first axis
_current = threading.local()


class JaxStrategy:
    """All devices of JAX, of all processes.

    Args:
        devices: those of each process one after another.
        sharding: `replicated` or `fsdp`.

    Attributes:
        num_replicas_in_sync: how many devices a batch is divided over.
        processes, process: how many processes run this program, and which of them this is.
        everywhere, divided: the sharding of what every device has, and of what is divided along its
            first axis.
        divides_weights: whether each device has a part of the weights.
    """

    def __init__(self, devices: Sequence[Device], sharding: str = "replicated"):
        self.devices = devices
        self.num_replicas_in_sync = len(devices)
        self.processes, self.process = jax.process_count(), jax.process_index()
        self._mesh = Mesh(np.array(devices), (DATA,))
        self.everywhere = NamedSharding(self._mesh, _SAME)
        self.divided = NamedSharding(self._mesh, _DIVIDED)
        self.divides_weights = sharding == "fsdp"

    @contextlib.contextmanager
    def scope(self, divided: bool = False) -> Iterator[None]:
        """A scope in which `current_strategy` is this one.

        Weights that are to be divided are made so, if `divided`: then neither a device nor a host
        ever holds all of them. Else they are made in the host's memory.
        """
        before = getattr(_current, "strategy", None)
        layouts = keras.distribution.distribution()
        _current.strategy = self
        if self.divides_weights:
            keras.distribution.set_distribution(_Layouts(self) if divided else None)
        try:
            with jax.default_device(_host()) if self.divides_weights else contextlib.nullcontext():
                yield
        finally:
            keras.distribution.set_distribution(layouts)
            _current.strategy = before

    def distribute_datasets_from_function(
        self, dataset_function: Callable[[tf.distribute.InputContext], tf.data.Dataset]
    ) -> Batches:
        """The batches of all processes' datasets.

        `dataset_function` is called as if each process were one replica, and returns this process's
        part of each batch.
        """
        context = tf.distribute.InputContext(self.processes, self.process, self.processes)
        return Batches(self, dataset_function(context))

    def sharding_of(self, shape: Sequence[int]) -> NamedSharding:
        """How weights, and what goes with each of their entries, are placed on the devices.

        If they have two axes or more, the longest axis that can be divided is divided; of equally
        long ones, the first. Small ones stay whole; see `TILE`.
        """
        fit = [axis for axis, size in enumerate(shape) if size % self.num_replicas_in_sync == 0]
        if not self.divides_weights or len(shape) < 2 or not fit:
            return self.everywhere
        if math.prod(shape) < TILE * self.num_replicas_in_sync:
            return self.everywhere
        longest = max(fit, key=lambda axis: shape[axis])
        spec = [DATA if axis == longest else None for axis in range(len(shape))]
        return NamedSharding(self._mesh, PartitionSpec(*spec))

    def place(self, variables: Sequence[Any]) -> list[jax.Array]:
        """Puts weights, and what goes with them, on the devices, where the variables keep them.

        Returns:
            The values of the Keras variables, placed as `sharding_of` says.

        Raises:
            ValueError: the values are not the same in all processes.
        """
        values = [variable.value for variable in variables]
        shardings = [self.sharding_of(value.shape) for value in values]
        shared = values if self.processes == 1 else self._share(variables, shardings)
        placed = jax.device_put(shared, shardings)
        for variable, value, new in zip(variables, values, placed, strict=True):
            if new is not value:  # else it has been there
                variable.assign(new)
        return placed

    def _share(
        self, variables: Sequence[Any], shardings: Sequence[NamedSharding]
    ) -> list[jax.Array]:
        """What variables hold, as arrays of all processes.

        `jax.device_put` would gather every process's copy of each on all devices, to compare them.
        """
        values = [variable.value for variable in variables]
        copies = {n: np.asarray(v) for n, v in enumerate(values) if v.is_fully_addressable}
        if not copies:
            return values
        digests = [hashlib.sha256(copy.tobytes()).digest() for copy in copies.values()]
        rows = np.frombuffer(b"".join(digests), np.uint8).reshape(len(copies), -1)
        spread = np.ptp(multihost_utils.process_allgather(rows), axis=0)
        for n, differs in zip(copies, spread.any(axis=-1), strict=True):
            if differs:
                raise ValueError(
                    f"{variables[n].path} differs between the hosts; give all of them the same "
                    "files, at the same paths"
                )
        for n, copy in copies.items():
            values[n] = jax.make_array_from_callback(copy.shape, shardings[n], copy.__getitem__)
        return values

    def gather(self, value: jax.Array, shape: Sequence[int]) -> jax.Array:
        """Weights of a shape as a pass reads them, inside `map_shares`, from this device's part."""
        spec = self.sharding_of(shape).spec
        if DATA not in spec:
            return value
        axis = spec.index(DATA)
        # As a matrix: XLA pads the heads' short axes in memory, and does not scatter along others.
        first, last = axis == 0, axis == len(shape) - 1
        if first or last:
            value = jnp.reshape(value, (value.shape[0], -1) if first else (-1, value.shape[-1]))
            axis = 0 if first else 1
        return jnp.reshape(jax.lax.all_gather(value, DATA, axis=axis, tiled=True), shape)

    def scatter(self, gradient: jax.Array, shape: Sequence[int]) -> jax.Array:
        """This device's part of the sum of all devices' gradients for what `gather` takes."""
        # The gradient of a gather is a sum already, of which each device gets its part.
        is_summed = DATA in self.sharding_of(shape).spec
        return gradient if is_summed else jax.lax.psum(gradient, DATA)

    @property
    def axis(self) -> str | None:
        """The axis of the mesh, inside `map_shares`; None outside."""
        return getattr(_current, "axis", None)

    def map_shares(self, function: Callable[..., Any], outputs: Any = _SAME) -> Callable[..., Any]:
        """Divides a batch over the devices, each of which calls a function on its share.

        The function takes anything that is placed on the devices as weights are, and a batch.
        `outputs` is the nested `PartitionSpec` of what it returns; by default every device returns
        the same.
        """

        def of_share(*arguments: Any) -> Any:
            _current.axis = DATA
            try:
                return function(*arguments)
            finally:
                _current.axis = None

        def on_devices(*arguments: Any) -> Any:
            *others, _ = arguments
            specs = jax.tree.map(lambda x: self.sharding_of(x.shape).spec, others)
            each = jax.shard_map(
                of_share,
                mesh=self._mesh,
                in_specs=(*specs, _DIVIDED),
                out_specs=outputs,
                check_vma=False,
            )
            return each(*arguments)

        return on_devices

    def program(
        self, function: Callable[[Any], Any], model: keras.Model, sums: bool = False
    ) -> Any:
        """Turns a function of a share, which reads a model's weights, into one of whole batches.

        The devices' nested lists and dicts of arrays are put together, or summed.

        Returns:
            Compiled function of the arrays of `model.weights` and of a batch.
        """
        variables = model.weights

        def of_share(values: list[jax.Array], batch: Any) -> Any:
            values = [
                self.gather(value, variable.shape)
                for value, variable in zip(values, variables, strict=True)
            ]
            with keras.StatelessScope(list(zip(variables, values, strict=True))):
                results = function(batch)
            return jax.lax.psum(results, DATA) if sums else results

        of_all = self.map_shares(of_share, _SAME if sums else _DIVIDED)
        return jax.jit(of_all, out_shardings=self.everywhere)

    def on_batches(
        self, function: Callable[[Any], Any], model: keras.Model, sums: bool = False
    ) -> Callable[[Any], Any]:
        """`program` with the weights that the model has when it is called, and NumPy's arrays."""
        run, variables = self.program(function, model, sums), model.weights

        def on_batch(batch: Any) -> Any:
            return jax.tree.map(np.asarray, run(self.place(variables), batch))

        return on_batch

    def sum_over_processes(self, number: float) -> float:
        """The sum of a number over all processes, each of which calls this."""
        return float(np.sum(multihost_utils.process_allgather(np.float32(number))))


class _Layouts:
    """How Keras places the variables that it makes; see `keras.distribution.set_distribution`."""

    def __init__(self, strategy: JaxStrategy):
        self._sharding_of = strategy.sharding_of

    def get_variable_layout(self, variable: keras.Variable) -> NamedSharding | None:
        """The sharding of those that are divided; None leaves the others on this host."""
        sharding = self._sharding_of(variable.shape)
        return sharding if DATA in sharding.spec else None

    def get_tensor_layout(self, path: str) -> None:
        """None: results of layers stay where they are."""


class Batches:
    """Batches on the devices, of dicts; the next one is on its way while a step runs."""

    def __init__(self, strategy: JaxStrategy, dataset: tf.data.Dataset):
        self._strategy, self._dataset = strategy, dataset
        self.element_spec = dataset.element_spec

    def __iter__(self) -> Iterator[dict[str, jax.Array]]:
        ahead = None
        for batch in self._dataset.as_numpy_iterator():
            batch, ahead = ahead, self._place(batch)  # pyright: ignore[reportArgumentType]
            if batch is not None:
                yield batch
        if ahead is not None:
            yield ahead

    def _place(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        divided = self._strategy.divided
        return {
            name: jax.make_array_from_process_local_data(divided, array)
            for name, array in batch.items()
        }


def current_strategy() -> JaxStrategy:
    """The `JaxStrategy` of the innermost scope, else one of this process's first device."""
    innermost = getattr(_current, "strategy", None)
    return innermost or JaxStrategy(jax.local_devices()[:1])


def _host() -> Device | None:
    """This host's CPU as a device; None if `JAX_PLATFORMS` leaves it out."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def jax_strategy(
    tpu: str | None,
    slice_: Slice | None,
    tf_config: dict[str, Any] | None,
    sharding: str = "replicated",
) -> JaxStrategy:
    """The strategy of all devices; with several hosts, all of them call this.

    Args:
        tpu: see `tpu.strategy.get_strategy`.
        slice_: what `tpu` names.
        tf_config: the content of `TF_CONFIG`.
        sharding: see `JaxStrategy`.

    Raises:
        ValueError: JAX finds other devices.
    """
    # TensorFlow reads the data, and must leave the devices to JAX.
    os.environ["TPU_LOAD_LIBRARY"] = "0"
    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    asked = "TF_CONFIG" if tpu is None else f"tpu {tpu!r}"
    try:
        if slice_ is not None and slice_.hosts > 1:
            jax.distributed.initialize()
        elif tf_config is not None:
            _join(tf_config)
        devices = jax.devices(None if tpu is None else "tpu")
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{asked}: JAX finds no such devices ({one_line(error)[:200]})") from error
    if tpu is None and devices[0].platform == "tpu":
        raise ValueError("this machine has a TPU; give tpu=local, or set JAX_PLATFORMS=cpu")
    if slice_ is not None and len(devices) != slice_.replicas:
        raise ValueError(
            f"{asked}: a {slice_.accelerator_type} has {slice_.replicas} devices, but JAX finds "
            f"{len(devices)}"
        )
    devices = sorted(devices, key=lambda device: (device.process_index, device.id))
    return JaxStrategy(devices, sharding)


def _join(tf_config: dict[str, Any]) -> None:
    """Joins the other machines of `TF_CONFIG`; the first one brings all together."""
    cluster, task = tf_config["cluster"], tf_config["task"]
    jobs = sorted(cluster)  # "chief" before "worker"
    everyone = [(job, index) for job in jobs for index in range(len(cluster[job]))]
    jax.distributed.initialize(
        cluster[jobs[0]][0], len(everyone), everyone.index((task["type"], int(task["index"])))
    )

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

import contextlib
import hashlib
import math
import os
import threading

import jax
import jax.numpy as jnp
import keras
import numpy as np
import tensorflow as tf
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pipelines.command_line import one_line

DATA = "data"  # the axis of the mesh that a batch is divided along
# A part with fewer entries takes no less of a TPU's memory, and gathering it takes much time.
TILE = 1024
_SAME, _DIVIDED = PartitionSpec(), PartitionSpec(DATA)  # on every device; along the first axis
_current = threading.local()


class JaxStrategy:
    """All devices of JAX, of all processes.

    Args:
        devices: list of `jax.Device`, those of each process one after another.
        sharding: str, `replicated` or `fsdp`.

    Attributes:
        num_replicas_in_sync: int, how many devices a batch is divided over.
        processes: int, how many processes run this program.
        process: int, which of them this is.
        everywhere: `jax.sharding.Sharding` of what every device has.
        divided: `jax.sharding.Sharding` of what is divided along its first axis.
        divides_weights: bool, whether each device has a part of the weights.
    """

    def __init__(self, devices, sharding="replicated"):
        self.devices = devices
        self.num_replicas_in_sync = len(devices)
        self.processes, self.process = jax.process_count(), jax.process_index()
        self._mesh = Mesh(np.array(devices), (DATA,))
        self.everywhere = NamedSharding(self._mesh, _SAME)
        self.divided = NamedSharding(self._mesh, _DIVIDED)
        self.divides_weights = sharding == "fsdp"

    @contextlib.contextmanager
    def scope(self):
        """A scope in which `current_strategy` is this one.

        Weights that are to be divided are made in the host's memory: one device may not hold all.
        """
        before = getattr(_current, "strategy", None)
        _current.strategy = self
        try:
            with jax.default_device(_host()) if self.divides_weights else contextlib.nullcontext():
                yield
        finally:
            _current.strategy = before

    def distribute_datasets_from_function(self, dataset_function):
        """The batches of all processes' datasets.

        Args:
            dataset_function: callable of a `tf.distribute.InputContext`, as if each process were
                one replica; returns a `tf.data.Dataset` of this process's part of each batch.

        Returns:
            `Batches`.
        """
        context = tf.distribute.InputContext(self.processes, self.process, self.processes)
        return Batches(self, dataset_function(context))

    def sharding_of(self, shape):
        """How weights, and what goes with each of their entries, are placed on the devices.

        If they have two axes or more, the longest axis that can be divided is divided; of equally
        long ones, the first. Small ones stay whole; see `TILE`.

        Args:
            shape: tuple of int.

        Returns:
            `jax.sharding.Sharding`.
        """
        fit = [axis for axis, size in enumerate(shape) if size % self.num_replicas_in_sync == 0]
        if not self.divides_weights or len(shape) < 2 or not fit:
            return self.everywhere
        if math.prod(shape) < TILE * self.num_replicas_in_sync:
            return self.everywhere
        longest = max(fit, key=lambda axis: shape[axis])
        spec = [DATA if axis == longest else None for axis in range(len(shape))]
        return NamedSharding(self._mesh, PartitionSpec(*spec))

    def placed(self, variables):
        """Puts weights, and what goes with them, on the devices, where the variables keep them.

        Args:
            variables: list of Keras variables.

        Returns:
            list of arrays, placed as `sharding_of` says.

        Raises:
            ValueError: the values are not the same in all processes.
        """
        values = [variable.value for variable in variables]
        shardings = [self.sharding_of(value.shape) for value in values]
        shared = values if self.processes == 1 else self._shared(variables, shardings)
        placed = jax.device_put(shared, shardings)
        for variable, value, new in zip(variables, values, placed, strict=True):
            if new is not value:  # else it has been there
                variable.assign(new)
        return placed

    def _shared(self, variables, shardings):
        """What variables hold, as arrays of all processes.

        `jax.device_put` would gather every process's copy of each on all devices, to compare them.
        """
        values = [variable.value for variable in variables]
        copies = {n: np.asarray(v) for n, v in enumerate(values) if v.is_fully_addressable}
        if not copies:
            return values
        digests = [hashlib.sha256(copy.tobytes()).digest() for copy in copies.values()]
        digests = np.frombuffer(b"".join(digests), np.uint8).reshape(len(copies), -1)
        spread = np.ptp(multihost_utils.process_allgather(digests), axis=0)
        for n, differs in zip(copies, spread.any(axis=-1), strict=True):
            if differs:
                raise ValueError(
                    f"{variables[n].path} differs between the hosts; give all of them the same "
                    "files, at the same paths"
                )
        for n, copy in copies.items():
            values[n] = jax.make_array_from_callback(copy.shape, shardings[n], copy.__getitem__)
        return values

    def gathered(self, value, shape):
        """Weights as a pass reads them, inside `on_each`; for their gradient see `scattered`.

        Args:
            value: array, this device's part of them.
            shape: tuple of int, that of the whole.
        """
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

    def scattered(self, gradient, shape):
        """This device's part of the sum of all devices' gradients for divided weights.

        Args:
            gradient: array, for what `gathered` takes. Where that gathers, this is the sum already:
                the gradient of a gather is a sum of which each device gets its part.
            shape: tuple of int, that of the whole.
        """
        is_summed = DATA in self.sharding_of(shape).spec
        return gradient if is_summed else jax.lax.psum(gradient, DATA)

    @property
    def axis(self):
        """The axis of the mesh, inside `on_each`: str; None outside."""
        return getattr(_current, "axis", None)

    def on_each(self, function, outputs=_SAME):
        """Divides a batch over the devices, each of which calls a function on its share.

        Args:
            function: of anything that is placed on the devices as weights are, and of a batch.
            outputs: nested `jax.sharding.PartitionSpec` of what it returns; by default every device
                returns the same.
        """

        def of_share(*arguments):
            _current.axis = DATA
            try:
                return function(*arguments)
            finally:
                _current.axis = None

        def on_devices(*arguments):
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

    def program(self, function, model, sums=False):
        """Turns a function of a share, which reads a model's weights, into one of whole batches.

        Args:
            function: from a dict of arrays to nested lists and dicts of arrays.
            model: `keras.Model`.
            sums: bool, whether the devices' results are summed; else they are put together.

        Returns:
            compiled function of (list of arrays, those of `model.weights`; a batch).
        """
        variables = model.weights

        def of_share(values, batch):
            values = [
                self.gathered(value, variable.shape)
                for value, variable in zip(values, variables, strict=True)
            ]
            with keras.StatelessScope(list(zip(variables, values, strict=True))):
                found = function(batch)
            return jax.lax.psum(found, DATA) if sums else found

        of_all = self.on_each(of_share, _SAME if sums else _DIVIDED)
        return jax.jit(of_all, out_shardings=self.everywhere)

    def whole(self, function, model, sums=False):
        """The same with the weights that the model has when it is called.

        Args:
            function, model, sums: see `program`.

        Returns:
            function from one of `Batches` to nested lists and dicts of NumPy arrays.
        """
        run, variables = self.program(function, model, sums), model.weights

        def on_batch(batch):
            return jax.tree.map(np.asarray, run(self.placed(variables), batch))

        return on_batch

    def total(self, number):
        """The sum of a number over all processes, each of which calls this.

        Args:
            number: float.
        """
        return float(np.sum(multihost_utils.process_allgather(np.float32(number))))


class Batches:
    """Batches on the devices; the next one is on its way while a step runs.

    Args:
        strategy: `JaxStrategy`.
        dataset: `tf.data.Dataset` of dicts, this process's part of each batch.

    Attributes:
        element_spec: that of the dataset.
    """

    def __init__(self, strategy, dataset):
        self._strategy, self._dataset = strategy, dataset
        self.element_spec = dataset.element_spec

    def __iter__(self):
        ahead = None
        for batch in self._dataset.as_numpy_iterator():
            batch, ahead = ahead, self._placed(batch)
            if batch is not None:
                yield batch
        if ahead is not None:
            yield ahead

    def _placed(self, batch):
        divided = self._strategy.divided
        return {
            name: jax.make_array_from_process_local_data(divided, array)
            for name, array in batch.items()
        }


def current_strategy():
    """The `JaxStrategy` of the innermost scope, else one of this process's first device."""
    found = getattr(_current, "strategy", None)
    return found or JaxStrategy(jax.local_devices()[:1])


def _host():
    """This host's CPU as a device; None if `JAX_PLATFORMS` leaves it out."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def jax_strategy(tpu, slice_, tf_config, sharding="replicated"):
    """The strategy of all devices; with several hosts, all of them call this.

    Args:
        tpu: str, see `tpu.strategy.get_strategy`, or None.
        slice_: `tpu.slices.Slice` that `tpu` names, or None.
        tf_config: dict, the content of `TF_CONFIG`, or None.
        sharding: see `JaxStrategy`.

    Returns:
        `JaxStrategy`.

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


def _join(tf_config):
    """Joins the other machines of `TF_CONFIG`; the first one brings all together."""
    cluster, task = tf_config["cluster"], tf_config["task"]
    jobs = sorted(cluster)  # "chief" before "worker"
    everyone = [(job, index) for job in jobs for index in range(len(cluster[job]))]
    jax.distributed.initialize(
        cluster[jobs[0]][0], len(everyone), everyone.index((task["type"], int(task["index"])))
    )

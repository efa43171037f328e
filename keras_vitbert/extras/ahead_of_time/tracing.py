"""Traces a step as a TPU would run it, on a machine without one.

`tf.distribute.TPUStrategy` does most of its work in Python: which replica runs what, how variables
are made and updated, where values are summed over the replicas. Only three things need hardware:
the description of the slice; `tpu.replicate`, which passes the program of every replica to the
TPU's compiler; and the two collectives. They are replaced here. `tpu.slices` describes the slice.
The program of replica 0 is traced once for all replicas (they are the same), with one copy of each
variable. The collectives become XLA's all-reduce over all replicas. The result is the program of
one replica in StableHLO, for any XLA compiler.

It uses private names of TensorFlow 2.19 to 2.21.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops
from tensorflow.python.client.session import _DeviceAttributes
from tensorflow.python.ops.control_flow_ops import XLAControlFlowContext
from tensorflow.python.tpu import tpu, tpu_replication
from tensorflow.python.tpu.ops import tpu_ops
from tensorflow.python.tpu.tpu_function import tpu_shard_context
from tensorflow.python.tpu.tpu_system_metadata import TPUSystemMetadata

from pipelines.command_line import one_line

_CPU = "/job:localhost/replica:0/task:0/device:CPU:0"


def tracing_strategy(replicas: int, replicas_per_host: int = 8) -> tf.distribute.TPUStrategy:
    """A strategy for building and tracing a model, not for running it."""
    strategy = tf.distribute.TPUStrategy(_Resolver(replicas, replicas_per_host))
    extended = strategy.extended
    # One copy of each variable, in the memory of this machine.
    extended._tpu_devices = np.array([[_CPU]], dtype=object)
    extended._host_device = _CPU
    for workers in (extended._device_input_worker_devices, extended._host_input_worker_devices):
        workers.clear()
        workers[_CPU] = [_CPU]
    strategy._enable_packed_variable_in_eager_mode = False
    return strategy


def stablehlo(
    strategy: tf.distribute.TPUStrategy, step: Callable, arguments: Any
) -> tuple[bytes, list]:
    """Traces the program of one replica, a step of nested `tf.TensorSpec` that returns tensors.

    Returns:
        A serialised StableHLO module, and the handles of the variables that it uses. The module's
        arguments are those of `step`, flattened, and then the variables; it returns what `step`
        returns, flattened, and then the new values of variables. Its attribute
        `mhlo.input_output_alias` says which of them belongs to which argument.

    Raises:
        ValueError: the step holds what no TPU can run, such as strings or Python functions.
    """

    def on_replica(*arguments: Any) -> Any:
        outputs = strategy.run(step, args=arguments)
        return strategy.experimental_local_results(outputs)[0]

    run: Any = tf.function(on_replica, jit_compile=True, autograph=False)
    zeros = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), arguments)
    with _without_hardware(strategy.num_replicas_in_sync):
        traced = run.get_concrete_function(*zeros)  # raises errors of the step itself
        try:
            program = run.experimental_get_compiler_ir(*zeros)(stage="stablehlo_serialized")
        except (ValueError, tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            raise ValueError(f"cannot run on a TPU: {one_line(error)[:500]}") from error
    return program, list(traced.captured_inputs)


class _Resolver:
    """The methods of a resolver that `TPUStrategy` calls."""

    tpu_hardware_feature = None

    def __init__(self, replicas: int, replicas_per_host: int):
        self.replicas, self.replicas_per_host = replicas, replicas_per_host

    def get_tpu_system_metadata(self) -> TPUSystemMetadata:
        name = "/job:localhost/replica:0/task:0/device:TPU:0"
        return TPUSystemMetadata(
            num_cores=self.replicas,
            num_hosts=-(-self.replicas // self.replicas_per_host),
            num_of_cores_per_host=min(self.replicas, self.replicas_per_host),
            topology=None,
            devices=(_DeviceAttributes(name, "TPU", 0, 0),),
        )

    def cluster_spec(self) -> None:
        return None


class _ReplicaContext(tpu_replication.TPUReplicateContext):
    """Tells TensorFlow that it traces for a TPU, without marking operations."""

    outside_all_rewrites = False
    Enter, Exit = XLAControlFlowContext.Enter, XLAControlFlowContext.Exit

    def __init__(self):
        XLAControlFlowContext.__init__(self)

    def get_replicated_var_handle(
        self,
        name: str,
        handle_id: str,
        vars_: Any,
        is_mirrored: bool = False,
        is_packed: bool = False,
    ) -> Any:
        return vars_[0].handle

    def AddValue(self, val: Any) -> Any:
        return val

    def AddOp(self, op: Any) -> None:
        pass

    AddInnerOp = AddOp

    def EnterGradientColocation(self, op: Any, gradient_uid: Any) -> None:
        pass

    ExitGradientColocation = EnterGradientColocation


@contextlib.contextmanager
def _without_hardware(replicas: int) -> Iterator[None]:
    """Replaces the functions that need a TPU while a step is traced."""
    everyone = np.arange(replicas, dtype=np.int32)[np.newaxis]

    def cross_replica_sum(x: Any, group_assignment: Any = None, name: str | None = None) -> Any:
        x = tf.convert_to_tensor(x)  # rows of `IndexedSlices` too
        groups = everyone if group_assignment is None else group_assignment
        return gen_xla_ops.xla_all_reduce(x, groups, reduce_op="Add", mode="CrossReplica")

    def all_to_all(x: Any, *dimensions: int, **unused: Any) -> tf.Tensor:
        # TensorFlow broadcasts the first replica's value with this: `x` holds `replicas` copies,
        # and index 0 of each replica's result comes from replica 0. The sum moves and holds as
        # many bytes. Unlike the real operation, it takes neither booleans nor 64 bits.
        x = tf.convert_to_tensor(x)
        is_first = tf.cast(gen_xla_ops.xla_replica_id(), tf.int32) == 0
        narrow = tf.cast(x, tf.int32) if x.dtype in (tf.bool, tf.int64, tf.uint64) else x
        total = cross_replica_sum(tf.where(is_first, narrow, tf.zeros_like(narrow)))
        return tf.cast(total, x.dtype)

    def replicate(computation: Callable[..., Any], inputs: Any, **unused: Any) -> list:
        context: Any = _ReplicaContext()
        with tpu_shard_context(replicas):
            replica = tf.cast(gen_xla_ops.xla_replica_id(), tf.int32)
            context.Enter()
            try:
                outputs = computation(replica, *inputs[0][1:])
            finally:
                context.Exit()
        tensors = [tf.convert_to_tensor(x) for x in tf.nest.flatten(outputs) if x is not None]
        return [tensors] * replicas

    with (
        mock.patch.object(tpu, "replicate", replicate),
        mock.patch.object(tpu_ops, "cross_replica_sum", cross_replica_sum),
        mock.patch.object(tpu_ops, "all_to_all", all_to_all),
    ):
        yield

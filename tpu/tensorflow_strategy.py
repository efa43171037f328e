"""TensorFlow's devices as the strategy of a run: a TPU's, those of several machines, or one's."""

import tensorflow as tf

from pipelines.command_line import one_line
from tpu.slices import Slice


def tpu_strategy(tpu: str | None, address: str, slice_: Slice | None) -> tf.distribute.TPUStrategy:
    """Connects to a TPU.

    Args:
        tpu: as the user named it.
        address: `local` or `grpc://...`, which has been checked.
        slice_: its type, if that is known.

    Raises:
        ValueError: TensorFlow finds none there, or one of another size.
    """
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(address)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"tpu {tpu!r}: TensorFlow {tf.__version__} found no TPU at {address} "
            f"({one_line(error)[:200]}); TPUs need the package tensorflow-tpu in place of "
            "tensorflow: tensorflow-tpu==2.20.0 libtpu==0.0.21"
        ) from error
    if slice_ and strategy.num_replicas_in_sync != slice_.replicas:
        raise ValueError(
            f"tpu {tpu!r}: a {slice_.accelerator_type} has {slice_.replicas} replicas, but "
            f"TensorFlow found {strategy.num_replicas_in_sync} at {address}"
        )
    return strategy


def workers_strategy() -> tf.distribute.MultiWorkerMirroredStrategy:
    """Joins the other machines of `TF_CONFIG`.

    Raises:
        ValueError: this machine cannot.
    """
    # Physical: listing logical devices would initialise them, which is too early here.
    gpus = tf.config.list_physical_devices("GPU")
    ways = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=ways.AUTO if gpus else ways.RING
    )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except tf.errors.OpError as error:
        raise ValueError(
            "TF_CONFIG: this machine cannot join the workers "
            f"({one_line(error)[:200]}); is its port in use, by another run?"
        ) from error


def local_strategy() -> tf.distribute.Strategy:
    """All GPUs of this machine, else its CPU."""
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()

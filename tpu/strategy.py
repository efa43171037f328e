"""Which devices a run trains on."""


def get_strategy():
    """A `tf.distribute.Strategy` over what this machine has.

    All GPUs by `MirroredStrategy` where there are several; else the default strategy, which uses
    the one GPU or the CPU.
    """
    import tensorflow as tf

    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()

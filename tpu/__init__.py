"""TPUs: from flags to a `tf.distribute.Strategy`, and the proof of a run without a TPU."""

import pipelines  # noqa: F401 - it sees to Ctrl-C while a command is loaded

"""The devices of a run: from their names to a `tf.distribute.Strategy`."""

import pipelines  # noqa: F401 - it sees to Ctrl-C while a command is loaded

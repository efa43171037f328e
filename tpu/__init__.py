"""Devices: from flags to a `tf.distribute.Strategy`."""

"""TPUs: from flags to a `tf.distribute.Strategy`, and the proof of a run without a TPU."""

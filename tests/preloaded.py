"""What `tests/forked.py` imports once for all its processes; nothing here may start TensorFlow."""

import gc

from tests.traces import forget_lines

forget_lines()
# What is imported stays: looking for garbage among it would cost each process some time.
gc.freeze()
gc.set_threshold(100_000, 50, 1000)

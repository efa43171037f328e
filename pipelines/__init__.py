"""Data in and out: from raw files to TFRecords, and from TFRecords to the training stream."""

import signal
import sys

if sys.argv[:1] == ["-m"]:  # a command of `python -m`: Ctrl-C while it is loaded needs no traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

"""Data in and out: from raw files to TFRecords, and from TFRecords to the training stream."""

import signal
import sys

if sys.argv[:1] == ["-m"]:  # run by `python -m`: Ctrl-C during loading should print no traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

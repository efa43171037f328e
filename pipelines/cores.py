"""How many cores are available.

This module imports nothing heavy.
"""

import os


def available_cores():
    """How many cores this process may use; all if the system does not say (macOS)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

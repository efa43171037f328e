"""How many cores are available.

This module imports nothing heavy.
"""

import os


def available_cores() -> int:
    """How many cores this process may use; all if the system does not say (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

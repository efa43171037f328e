"""How much memory this machine has, and how much of it is free."""

import math

_MEMINFO = "/proc/meminfo"
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def available_memory():
    """Bytes that can still be allocated; infinite if the system does not say."""
    return _meminfo().get("MemAvailable", math.inf)


def all_memory():
    """The most bytes that a process can have, swap included; infinite if nothing says.

    A container's limit counts if it is lower.
    """
    system = _meminfo()
    memory = min([system.get("MemTotal", math.inf), *map(_limit, _LIMITS)])
    return memory + system.get("SwapTotal", 0)


def _meminfo():
    """Name to bytes."""
    try:
        with open(_MEMINFO) as lines:
            fields = (line.split() for line in lines)
            return {name.rstrip(":"): int(count) << 10 for name, count, *_ in fields}
    except (OSError, ValueError):
        return {}


def _limit(path):
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):  # it does not exist, or says `max`
        return math.inf

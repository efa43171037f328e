"""How much memory this machine has, and how much of it is free."""

import math

_MEMINFO = "/proc/meminfo"
# Of a container: its limit, what it uses, and what that consists of; control groups 2 and 1.
_CONTAINERS = (
    tuple(f"/sys/fs/cgroup/memory.{name}" for name in ("max", "current", "stat")),
    tuple(
        f"/sys/fs/cgroup/memory/memory.{name}"
        for name in ("limit_in_bytes", "usage_in_bytes", "stat")
    ),
)


def available_memory():
    """Bytes that can still be allocated; infinite if nothing says.

    A container's limit counts if it leaves less.
    """
    system = _fields(_MEMINFO).get("MemAvailable", math.inf) * 1024
    return min([system, *(_left(*paths) for paths in _CONTAINERS)])


def all_memory():
    """The most bytes that a process can have, swap included; infinite if nothing says.

    A container's limit counts if it is lower.
    """
    system = _fields(_MEMINFO)
    total = system.get("MemTotal", math.inf) * 1024
    limits = (_number(limit) for limit, *_ in _CONTAINERS)
    return min([total, *limits]) + system.get("SwapTotal", 0) * 1024


def _left(limit, usage, stat):
    """Bytes that a container can still allocate; cached files make room."""
    limit, usage = _number(limit), _number(usage)
    if math.isinf(limit) or math.isinf(usage):
        return math.inf
    parts = _fields(stat)
    return max(0, limit - usage + parts.get("active_file", 0) + parts.get("inactive_file", 0))


def _fields(path):
    """Name to number, of a file with one of them on a line."""
    try:
        with open(path) as lines:
            fields = (line.split() for line in lines)
            return {name.rstrip(":"): int(count) for name, count, *_ in fields}
    except (OSError, ValueError):
        return {}


def _number(path):
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):  # it does not exist, or says `max`
        return math.inf

"""How much memory is free."""

import math
import pathlib

_MEMINFO = "/proc/meminfo"
_CONTAINER = "/sys/fs/cgroup"


def available_memory() -> float:
    """Bytes that can still be allocated; infinite if nothing says.

    A container's limit counts if it leaves less; what it caches makes room.
    """
    free = _fields(_MEMINFO).get("MemAvailable", math.inf) * 1024
    limit, used = (_fields(f"{_CONTAINER}/memory.{name}").get("") for name in ("max", "current"))
    if limit is None or used is None:
        return free
    stat = _fields(f"{_CONTAINER}/memory.stat")
    cached = stat.get("active_file", 0) + stat.get("inactive_file", 0)
    return min(free, max(0, limit - used + cached))


def _fields(path):
    """Name to number, of a file with one of them on a line; a number alone has no name."""
    try:
        lines = [line.split() for line in pathlib.Path(path).read_text().splitlines()]
    except OSError:
        return {}
    pairs = (line[:2] if len(line) > 1 else ["", *line] for line in lines)
    return {name.rstrip(":"): int(number) for name, number in pairs if number.isdigit()}

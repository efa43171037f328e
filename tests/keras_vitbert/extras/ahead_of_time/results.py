"""Results of the compiler for tests without it, and the mark of tests with it."""

import importlib.util

import pytest

GIB = 2**30

needs_compiler = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("jax", "libtpu")),
    reason="needs the extra [aot]",
)


def compiled(peak=2.0, arguments=1.0, **changes):
    """The compiler's result for a program; sizes in GiB."""
    return {
        "fits": True,
        "seconds": 3.0,
        "available": int(15.48 * GIB),
        "peak": int(peak * GIB),
        "arguments": int(arguments * GIB),
        "temporaries": int(0.5 * GIB),
        "operations": 6.15e12,
        "bytes": 90e9,
        "collectives": {"all-reduce": {"count": 3, "bytes": 532_000_000}},
        **changes,
    }


def refused(needed, available=15.48):
    return {
        "fits": False,
        "seconds": 3.0,
        "needed": int(needed * GIB),
        "available": int(available * GIB),
    }

"""What a forward pass of a training step is told beside its inputs, deep inside of its layers."""

import contextlib
import functools
import threading

_scope = threading.local()  # each replica is traced in a thread of its own


def present(name):
    """What the innermost scope has of a name; None without one.

    Args:
        name: str.
    """
    return everything().get(name)


@contextlib.contextmanager
def using(**values):
    """A scope with these values beside those of the scopes around it.

    Args:
        **values: by name, see `present`.
    """
    before = everything()
    _scope.values = {**before, **values}
    try:
        yield
    finally:
        _scope.values = before


def everything():
    """All that `present` has: dict, which must not be changed."""
    return getattr(_scope, "values", {})


def in_present_scope(function):
    """The same function, in the scopes of where this is called, whenever it runs.

    Args:
        function: a callable, such as one that the backward pass runs again.
    """
    values = everything()

    @functools.wraps(function)
    def run(*args, **kwargs):
        with using(**values):
            return function(*args, **kwargs)

    return run

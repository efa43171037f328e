"""What layers deep inside a forward pass of a training step receive besides their inputs."""

import contextlib
import functools
import threading

_scope = threading.local()  # each replica is traced in a thread of its own


def present(name):
    """The value of a name in the innermost scope; None if there is none.

    Args:
        name: str.
    """
    return everything().get(name)


@contextlib.contextmanager
def using(**values):
    """A scope with these values in addition to those of the scopes around it.

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
    """All values that `present` returns: dict, which must not be changed."""
    return getattr(_scope, "values", {})


def in_present_scope(function):
    """The same function, which always runs in the scopes that are present now.

    Args:
        function: a callable, such as one that the backward pass runs again.
    """
    values = everything()

    @functools.wraps(function)
    def run(*args, **kwargs):
        with using(**values):
            return function(*args, **kwargs)

    return run

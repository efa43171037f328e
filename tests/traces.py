"""Traces of tests, whose operations do not note where Python made them."""

import functools


def forget_lines():
    """Spares TensorFlow to walk the stack for each operation, a tenth of what the tests take.

    An operation that fails is told by its name then, and not by its line.
    """
    from tensorflow.python.framework import ops

    ops._create_c_op = functools.partial(ops._create_c_op, extract_traceback=False)

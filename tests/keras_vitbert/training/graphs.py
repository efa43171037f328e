"""What the operations of a traced step wait for, and how much they make."""

import math
from typing import Any

from tensorflow.python.framework.ops import Operation

# What they make is a variable's or an argument's, or is in memory from the beginning.
GIVEN = {"Const", "Placeholder", "ReadVariableOp"}


def waited_for(*operations: Operation) -> set[Operation]:
    """The operations that these wait for, directly or not, and they themselves."""
    found, waiting = set(), list(operations)
    while waiting:
        operation = waiting.pop()
        if operation not in found:
            found.add(operation)
            waiting += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return found


def bytes_before(graph: Any, operation: Operation) -> int:
    """The bytes of all tensors that are made without waiting for an operation, or for it."""
    early = waited_for(*(tensor.op for tensor in graph.outputs), *graph.control_outputs)
    early -= waited_for(operation)
    early = [one for one in early if one.type not in GIVEN and operation not in waited_for(one)]
    tensors = [tensor for one in early for tensor in one.outputs if tensor.dtype.size]
    return sum(math.prod(tensor.shape) * tensor.dtype.size for tensor in tensors)

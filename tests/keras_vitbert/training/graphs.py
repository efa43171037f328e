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


def executed(graph: Any) -> list[Operation]:
    """The operations behind a function's results and effects; those of a called one once a call."""
    found, visited = {}, set()
    waiting: list = [(one, ()) for one in (*graph.outputs, *graph.control_outputs)]
    while waiting:
        wanted, calls = waiting.pop()  # the calls that lead to it, the last one the innermost
        if (id(wanted), calls) in visited:
            continue
        visited.add((id(wanted), calls))
        operation = getattr(wanted, "op", wanted)
        inside = operation.graph
        places = [place for place, tensor in enumerate(inside.inputs) if tensor is wanted]
        if calls and places:
            waiting.append((calls[-1].inputs[places[0]], calls[:-1]))
            continue
        needed = list(operation.inputs)
        if "PartitionedCall" in operation.type:
            body = inside._get_function(operation.get_attr("f").name).graph
            results = [] if wanted is operation else [body.outputs[wanted.value_index]]
            waiting += [(one, (*calls, operation)) for one in (*results, *body.control_outputs)]
            needed = []
        else:
            found[operation, calls] = operation
        waiting += [(one, calls) for one in (*needed, *operation.control_inputs)]
    return list(found.values())


def bytes_before(graph: Any, operation: Operation) -> int:
    """The bytes of all tensors that are made without waiting for an operation, or for it."""
    early = waited_for(*(tensor.op for tensor in graph.outputs), *graph.control_outputs)
    early -= waited_for(operation)
    early = [one for one in early if one.type not in GIVEN and operation not in waited_for(one)]
    tensors = [tensor for one in early for tensor in one.outputs if tensor.dtype.size]
    return sum(math.prod(tensor.shape) * tensor.dtype.size for tensor in tensors)

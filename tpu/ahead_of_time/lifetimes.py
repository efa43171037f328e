"""The memory that a traced function needs on a GPU, by the lifetimes of its tensors.

TensorFlow runs a function on a GPU one operation after the other, in the order in which their
inputs are there, and frees a tensor after its last use. So the graph alone says when which tensor
is in memory; TensorFlow's allocator is followed in placing them. Nothing is run, and no GPU is
needed.

Left out are the scratch memory of kernels and the driver. Variables are not counted:
`tpu.step_programs` knows them.
"""

import bisect
import collections
import dataclasses
import math

import tensorflow as tf

# The output is the memory of an input.
_VIEWS = {
    *("Bitcast", "CheckNumerics", "EnsureShape", "ExpandDims", "Identity", "IdentityN"),
    *("PreventGradient", "Reshape", "Snapshot", "Squeeze", "StopGradient"),
}
# The output takes the memory of an input of its size that nothing else needs.
_IN_PLACE = {
    *("Abs", "Add", "AddN", "AddV2", "BiasAdd", "BitwiseXor", "Cast", "DivNoNan", "Equal", "Erf"),
    *("Erfc", "Exp", "Greater", "GreaterEqual", "LeftShift", "Less", "Log", "Log1p", "LogSoftmax"),
    *("LogicalAnd", "Maximum", "Minimum", "Mul", "MulNoNan", "Neg", "Pow", "RealDiv", "Reciprocal"),
    *("Relu", "RightShift", "Rsqrt", "RsqrtGrad", "Select", "SelectV2", "Sigmoid", "Sign"),
    *("Softmax", "Sqrt", "SqrtGrad", "Square", "SquaredDifference", "Sub", "Tanh", "TanhGrad"),
    *("Xdivy"),
}
# Their memory is that of variables and of arguments.
_GIVEN = {"Const", "Placeholder", "ReadVariableOp"}
_BODIES = ("body", "f", "then_branch", "else_branch")  # attributes of calls, loops and conditions


# Of TensorFlow's allocator for GPUs ("best fit with coalescing"): sizes are multiples of the first;
# a free piece is divided if it is twice as large as needed, or if so much remains.
_UNIT, _REMAINDER = 256, 128 << 20


@dataclasses.dataclass(frozen=True)
class Peak:
    """The moment of a function with most memory in use.

    Attributes:
        bytes: int, of all tensors but arguments, constants and variables.
        allocated: int, the most that the allocator has given to them at a time, in whole pieces.
        reserved: int, what the allocator needs, gaps between the pieces included.
        operation: str, the name of the operation that runs then.
        tensors: list of the symbolic tensors that are in memory then.
    """

    bytes: int
    allocated: int
    reserved: int
    operation: str
    tensors: list

    def kinds(self):
        """What takes the memory.

        Returns:
            dict of a kind of tensor, such as `float32 (8, 197, 3072) of Mul`, to the bytes that all
            of this kind take together; the largest first.
        """
        kinds = collections.Counter()
        for tensor in self.tensors:
            kinds[f"{tensor.dtype.name} {tensor.shape} of {tensor.op.type}"] += size_of(tensor)
        return dict(kinds.most_common())


def peak_of(graph):
    """The most memory that the tensors of a graph take.

    Args:
        graph: `tf.Graph` of a concrete function.

    Returns:
        `Peak`.
    """
    memory = _Memory()
    _Execution(graph, memory).run()
    return Peak(memory.most, memory.allocated, memory.end, memory.operation, memory.tensors)


class _Memory:
    """What is in memory, and where.

    Attributes:
        most, allocated, end: see `Peak`; so far.
        operation, tensors: see `Peak`.
    """

    def __init__(self):
        self.live = {}  # the id of a tensor to (tensor, place, bytes of its piece)
        self.free = []  # (bytes, place), sorted
        self.ends = {}  # where a free piece ends to where it begins
        self.begins = {}  # the reverse
        self.tail = 0  # where the last piece ends
        self.in_use = self.total = self.most = self.allocated = self.end = 0
        self.operation, self.tensors = "", []

    def add(self, tensor, operation):
        size = size_of(tensor)
        self.total += size
        piece = max(1, -(-size // _UNIT)) * _UNIT
        index = bisect.bisect_left(self.free, (piece, -1))
        if index < len(self.free):
            found, place = self.free[index]
            self._take(found, place)
            if found >= 2 * piece or found - piece >= _REMAINDER:
                self._give(found - piece, place + piece)
            else:
                piece = found
        else:
            place = self.tail
            self.tail += piece
        self.live[id(tensor)] = tensor, place, piece
        self.in_use += piece
        self.allocated = max(self.allocated, self.in_use)
        self.end = max(self.end, self.tail)
        if self.total > self.most:
            self.most, self.operation = self.total, operation.name
            self.tensors = [tensor for tensor, _, _ in self.live.values()]

    def remove(self, owner):
        tensor, place, piece = self.live.pop(owner)
        self.total -= size_of(tensor)
        self.in_use -= piece
        if place in self.ends:
            before = self.ends[place]
            self._take(place - before, before)
            place, piece = before, piece + place - before
        if place + piece in self.begins:
            after = self.begins[place + piece] - place - piece
            self._take(after, place + piece)
            piece += after
        if place + piece == self.tail:
            self.tail = place
        else:
            self._give(piece, place)

    def _give(self, piece, place):
        bisect.insort(self.free, (piece, place))
        self.ends[place + piece], self.begins[place] = place, place + piece

    def _take(self, piece, place):
        del self.free[bisect.bisect_left(self.free, (piece, place))]
        del self.ends[place + piece], self.begins[place]


class _Execution:
    """Runs a graph without computing anything."""

    def __init__(self, graph, memory):
        self.graph, self.memory = graph, memory
        self.operations = _needed(graph)
        self.owners = {}  # the id of a tensor to that of the tensor that owns its memory
        for operation in self.operations:
            is_view = operation.type in _VIEWS
            for place, tensor in enumerate(operation.outputs):
                # `IdentityN` has as many inputs as outputs, the others have one output.
                owner = self.owners[id(operation.inputs[place])] if is_view else id(tensor)
                self.owners[id(tensor)] = owner
        self.uses = collections.Counter(
            self.owners[id(tensor)] for operation in self.operations for tensor in operation.inputs
        )
        self.uses.update(self.owners[id(tensor)] for tensor in graph.outputs)

    def run(self):
        for operation in self._in_order():
            self._run(operation)
        for owner in {self.owners[id(tensor)] for tensor in self.graph.outputs}:
            if owner in self.memory.live:  # it is no argument
                self.memory.remove(owner)

    def _in_order(self):
        """Operations in the order in which their inputs are there."""
        needed, waiting, followers = set(self.operations), {}, collections.defaultdict(list)
        for operation in self.operations:
            before = {*(tensor.op for tensor in operation.inputs), *operation.control_inputs}
            before &= needed
            waiting[operation] = len(before)
            for other in before:
                followers[other].append(operation)
        ready = collections.deque(o for o in self.operations if not waiting[o])
        while ready:
            operation = ready.popleft()
            yield operation
            for follower in followers[operation]:
                waiting[follower] -= 1
                if not waiting[follower]:
                    ready.append(follower)

    def _run(self, operation):
        for body in _bodies(self.graph, operation):
            _Execution(body, self.memory).run()
        made = [
            tensor
            for tensor in operation.outputs
            if self.owners[id(tensor)] == id(tensor) and operation.type not in _GIVEN
        ]
        in_place = operation.type in _IN_PLACE and self._frees(operation, size_of(made[0]))
        if in_place:
            self._free_inputs(operation)
        for tensor in made:
            self.memory.add(tensor, operation)
        if not in_place:
            self._free_inputs(operation)
        for tensor in made:
            if not self.uses[id(tensor)]:
                self.memory.remove(id(tensor))

    def _frees(self, operation, size):
        """Whether an operation is the last user of a tensor of this size."""
        used = collections.Counter(self.owners[id(tensor)] for tensor in operation.inputs)
        return any(
            self.uses[owner] == count
            and owner in self.memory.live
            and size_of(self.memory.live[owner][0]) == size
            for owner, count in used.items()
        )

    def _free_inputs(self, operation):
        for tensor in operation.inputs:
            owner = self.owners[id(tensor)]
            self.uses[owner] -= 1
            if not self.uses[owner] and owner in self.memory.live:
                self.memory.remove(owner)


def _needed(graph):
    """The operations of a graph that its outputs and its effects need, in an order that works."""
    waiting = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs)
    needed = set()
    while waiting:
        operation = waiting.pop()
        if operation not in needed:
            needed.add(operation)
            waiting += [tensor.op for tensor in operation.inputs] + operation.control_inputs
    return [operation for operation in graph.get_operations() if operation in needed]


def _bodies(graph, operation):
    """The graphs of the functions that an operation runs."""
    for name in _BODIES:
        try:
            function = operation.get_attr(name)
        except ValueError:
            continue
        yield graph._get_function(function.name).graph


def size_of(tensor):
    """The bytes of a tensor; 0 if its shape is not known, as of a few small ones.

    Args:
        tensor: symbolic `tf.Tensor`.
    """
    if tensor.dtype in (tf.resource, tf.variant, tf.string) or not tensor.shape.is_fully_defined():
        return 0
    return math.prod(tensor.shape) * tensor.dtype.size

"""The memory that a traced function needs on a GPU, by the lifetimes of its tensors.

On a GPU, TensorFlow runs the operations of a function one after another, in the order in which
their inputs are ready, and frees a tensor after its last use. So the graph alone says which tensors
are in memory at any time. They are placed as TensorFlow's allocator places them. Nothing is run,
and no GPU is needed.

The scratch memory of kernels and the driver are left out. Variables are not counted:
`keras_vitbert.ahead_of_time.step_programs` knows them.
"""

import bisect
import collections
import dataclasses
import itertools
import math

import tensorflow as tf

# The output shares the memory of an input.
_VIEWS = {
    *("Bitcast", "CheckNumerics", "EnsureShape", "ExpandDims", "Identity", "IdentityN"),
    *("PreventGradient", "Reshape", "Snapshot", "Squeeze", "StopGradient"),
}
# The output takes over the memory of an input of its size that nothing else needs.
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
_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
_LOOPS = {"StatelessWhile", "While"}

# Of TensorFlow's allocator for GPUs ("best fit with coalescing"): sizes are multiples of the unit;
# a free piece is divided if it is twice as large as needed, or if at least the remainder is left.
_UNIT, _REMAINDER = 256, 128 << 20


@dataclasses.dataclass(frozen=True)
class Peak:
    """The moment of a function with the most memory in use.

    Attributes:
        bytes: int, of all tensors except arguments, constants and variables.
        allocated: int, the most that the allocator has given them at one time, in whole pieces.
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


def executed(graph):
    """The operations that are run for a graph's outputs and effects.

    Args:
        graph: `tf.Graph` of a function.

    Returns:
        list of `tf.Operation`; those of a called function appear once for each call.
    """
    return [node.operation for node in _Execution(graph, _Memory()).nodes]


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


class _Value:
    """A tensor; in a called function, that of one call.

    Attributes:
        tensor: symbolic `tf.Tensor`.
        node: the `_Node` that makes it; None for an argument.
        owner: the value that owns its memory.
        uses: int, for an owner: the uses of its memory that are still to come.
    """

    def __init__(self, tensor, node=None, owner=None):
        self.tensor, self.node, self.owner, self.uses = tensor, node, owner or self, 0


class _Node:
    """An operation; in a called function, that of one call.

    Attributes:
        operation: `tf.Operation`.
        inputs, outputs: lists of `_Value`.
        waits: set of `_Node`, those that run before it.
    """

    def __init__(self, operation, inputs, waits):
        self.operation, self.inputs, self.waits = operation, inputs, waits
        is_view = operation.type in _VIEWS
        # `IdentityN` has as many inputs as outputs; the other views have one output.
        self.outputs = [
            _Value(tensor, self, inputs[place].owner if is_view else None)
            for place, tensor in enumerate(operation.outputs)
        ]


class _Memory:
    """What is in memory, and where.

    Attributes:
        most, allocated, end: see `Peak`; so far.
        operation, tensors: see `Peak`.
    """

    def __init__(self):
        self.live = {}  # a value that owns memory to (place, bytes of its piece)
        self.free = []  # (bytes, place), sorted
        self.ends = {}  # where a free piece ends to where it begins
        self.begins = {}  # the reverse
        self.tail = 0  # where the last piece ends
        self.in_use = self.total = self.most = self.allocated = self.end = 0
        self.operation, self.tensors = "", []

    def add(self, value, operation):
        size = size_of(value.tensor)
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
        self.live[value] = place, piece
        self.in_use += piece
        self.allocated = max(self.allocated, self.in_use)
        self.end = max(self.end, self.tail)
        if self.total > self.most:
            self.most, self.operation = self.total, operation.name
            self.tensors = [value.tensor for value in self.live]

    def hand_over(self, value, other):
        """Gives the memory of a value to another value of its size."""
        self.live[other] = self.live.pop(value)

    def remove(self, value):
        place, piece = self.live.pop(value)
        self.total -= size_of(value.tensor)
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
    """Runs a graph without computing anything.

    Attributes:
        arguments, outputs: lists of `_Value`, those of the graph.
    """

    def __init__(self, graph, memory):
        self.memory, self.nodes = memory, []
        self.arguments = [_Value(tensor) for tensor in graph.inputs]
        self.outputs, last = self._inlined(graph, self.arguments, set())
        self._prune({value.node for value in self.outputs if value.node} | last)
        for value in itertools.chain(self.outputs, *(node.inputs for node in self.nodes)):
            value.owner.uses += 1

    def run(self):
        """Runs it; then its results are in memory, except those that are arguments."""
        for node in self._in_order():
            self._run(node)

    def free(self):
        """Frees what it returns."""
        for owner in {value.owner for value in self.outputs}:
            if owner in self.memory.live:
                self.memory.remove(owner)

    def _inlined(self, graph, arguments, before):
        """Adds a graph's nodes, with those of the functions in place of calls, as TensorFlow does.

        Args:
            graph: `tf.Graph`.
            arguments: list of `_Value`.
            before: set of `_Node`, those that the call waits for.

        Returns:
            (list of `_Value`, the outputs; set of `_Node`, those that make its effects, or else
            `before`).
        """
        values = {id(t): value for t, value in zip(graph.inputs, arguments, strict=True)}
        ends = {tensor.op: before for tensor in graph.inputs}  # what control inputs wait for
        for operation in _ordered(graph):
            if operation in ends:
                continue
            inputs = [values[id(tensor)] for tensor in operation.inputs]
            waits = before.union(*(ends[other] for other in operation.control_inputs))
            # What XLA compiles is one operation, whose inner tensors are never in memory.
            if operation.type in _CALLS and not _attribute(operation, "_XlaMustCompile"):
                body = _function(operation, "f")
                outputs, ends[operation] = self._inlined(body, inputs, waits)
                # A function that was differentiated after this call has more outputs, after these.
                outputs = outputs[: len(operation.outputs)]
            else:
                waits |= {value.node for value in inputs if value.node}
                node = _Node(operation, inputs, waits)
                self.nodes.append(node)
                outputs, ends[operation] = node.outputs, {node}
            values.update(zip(map(id, operation.outputs), outputs, strict=True))
        outputs = [values[id(tensor)] for tensor in graph.outputs]
        return outputs, before.union(*(ends[other] for other in graph.control_outputs))

    def _prune(self, waiting):
        """Leaves out what none of these nodes waits for, such as gradients that nothing uses."""
        kept, waiting = set(), list(waiting)
        while waiting:
            node = waiting.pop()
            if node not in kept:
                kept.add(node)
                waiting += node.waits
        self.nodes = [node for node in self.nodes if node in kept]

    def _in_order(self):
        """Nodes in the order in which their inputs are ready."""
        waiting, followers = {}, collections.defaultdict(list)
        for node in self.nodes:
            waiting[node] = len(node.waits)
            for other in node.waits:
                followers[other].append(node)
        ready = collections.deque(node for node in self.nodes if not waiting[node])
        while ready:
            node = ready.popleft()
            yield node
            for follower in followers[node]:
                waiting[follower] -= 1
                if not waiting[follower]:
                    ready.append(follower)

    def _run(self, node):
        operation = node.operation
        made = []
        if operation.type in _LOOPS:
            self._loop(node)
        else:
            for branch in ("then_branch", "else_branch"):
                if body := _function(operation, branch):
                    execution = _Execution(body, self.memory)
                    execution.run()
                    execution.free()
            if operation.type not in _GIVEN:
                made = [value for value in node.outputs if value.owner is value]
            in_place = operation.type in _IN_PLACE and self._frees(node, size_of(made[0].tensor))
            if in_place:
                self._free_inputs(node)
            for value in made:
                self.memory.add(value, operation)
            if not in_place:
                self._free_inputs(node)
        for value in node.outputs:
            if not value.uses and value in self.memory.live:
                self.memory.remove(value)

    def _loop(self, node):
        """Runs one iteration, whose arguments and results have the memory of the loop's."""
        execution = _Execution(_function(node.operation, "body"), self.memory)
        for value, argument in zip(node.inputs, execution.arguments, strict=True):
            if value.owner.uses == 1 and value.owner in self.memory.live and argument.uses:
                self.memory.hand_over(value.owner, argument)
        self._free_inputs(node)
        execution.run()
        for value, result in zip(node.outputs, execution.outputs, strict=True):
            if result.owner in self.memory.live:
                self.memory.hand_over(result.owner, value)
            elif value.uses:
                self.memory.add(value, node.operation)

    def _frees(self, node, size):
        """Whether an operation is the last user of a tensor of this size."""
        used = collections.Counter(value.owner for value in node.inputs)
        return any(
            owner.uses == count and owner in self.memory.live and size_of(owner.tensor) == size
            for owner, count in used.items()
        )

    def _free_inputs(self, node):
        for value in node.inputs:
            owner = value.owner
            owner.uses -= 1
            if not owner.uses and owner in self.memory.live:
                self.memory.remove(owner)


def _ordered(graph):
    """The operations that a graph's outputs and effects need, each after those it waits for."""
    ordered = {}  # a set that keeps the order
    for operation in [tensor.op for tensor in graph.outputs] + list(graph.control_outputs):
        waiting = [operation]
        while waiting:
            first = [*(tensor.op for tensor in waiting[-1].inputs), *waiting[-1].control_inputs]
            if missing := [other for other in first if other not in ordered]:
                waiting += missing
            else:
                ordered[waiting.pop()] = True
    return list(ordered)


def _function(operation, name):
    """The graph of a function that an operation runs; None if it has no such attribute."""
    function = _attribute(operation, name)
    return function and operation.graph._get_function(function.name).graph


def _attribute(operation, name):
    """An attribute of an operation; None if it has none of that name."""
    try:
        return operation.get_attr(name)
    except ValueError:
        return None


def size_of(tensor):
    """The bytes of a tensor; 0 if its shape is not known, as for a few small ones.

    Args:
        tensor: symbolic `tf.Tensor`.
    """
    if tensor.dtype in (tf.resource, tf.variant, tf.string) or not tensor.shape.is_fully_defined():
        return 0
    return math.prod(tensor.shape) * tensor.dtype.size

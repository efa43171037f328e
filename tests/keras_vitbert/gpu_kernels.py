"""What TensorFlow would compute on the host of a GPU, read from the kernels that it registers.

Its build for Linux has the kernels of GPUs also where there is no GPU.
"""

import functools
import math

from tensorflow.python.framework import kernels

# They hold or pass on what others compute.
_WITHOUT_KERNELS = {"Placeholder", "Const", "NoOp"}


def known():
    """Whether this build has the kernels of GPUs."""
    return any(kernel.device_type == "GPU" for kernel in _kernels("MatMul"))


def on_host(function, least=10_000):
    """Large tensors that an operation takes from, or leaves in, the host's memory.

    Args:
        function: a concrete function.
        least: int, entries of a tensor that is large.

    Returns:
        set of str, the operation, its argument and the type, such as `Sum input int32`.
    """
    found = set()
    for operation in _operations(function.graph):
        kernel = _kernel_of(operation)
        arguments = [
            *zip(_names(operation, "input_arg"), operation.inputs, strict=True),
            *zip(_names(operation, "output_arg"), operation.outputs, strict=True),
        ]
        for name, tensor in arguments:
            shape = tensor.shape
            size = math.prod(shape) if shape.is_fully_defined() else 0
            if size >= least and (kernel is None or name in kernel.host_memory_arg):
                found.add(f"{operation.type} {name} {tensor.dtype.name}")
    return found


def _operations(graph):
    """The operations of a graph and of the functions that it calls."""
    for operation in graph.get_operations():
        called = []
        for attribute in operation.op_def.attr:
            if attribute.type in ("func", "list(func)"):
                value = operation.get_attr(attribute.name)
                called += value if isinstance(value, list) else [value]
        for function in called:
            yield from _operations(graph._get_function(function.name).graph)
        if not called and operation.type not in _WITHOUT_KERNELS:
            yield operation


@functools.cache
def _kernels(name):
    return list(kernels.get_registered_kernels_for_op(name).kernel)


def _kernel_of(operation):
    """The kernel of an operation on a GPU, or None."""
    fitting = [
        kernel
        for kernel in _kernels(operation.type)
        if all(_allows(constraint, operation) for constraint in kernel.constraint)
    ]
    own = [kernel for kernel in fitting if kernel.device_type == "GPU"]
    own += [kernel for kernel in fitting if kernel.device_type == "DEFAULT"]
    return max(own, key=lambda kernel: kernel.priority, default=None)


def _allows(constraint, operation):
    """Whether the types of an operation are those of a kernel."""
    allowed = constraint.allowed_values.list.type
    types = operation.get_attr(constraint.name)
    types = types if isinstance(types, list) else [types]
    return not allowed or all(dtype.as_datatype_enum in allowed for dtype in types)


def _names(operation, kind):
    """The names of the arguments of an operation, one for each tensor."""
    names = []
    for argument in getattr(operation.op_def, kind):
        count = 1
        if argument.number_attr:
            count = operation.get_attr(argument.number_attr)
        elif argument.type_list_attr:
            count = len(operation.get_attr(argument.type_list_attr))
        names += [argument.name] * count
    return names

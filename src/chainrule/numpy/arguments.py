"""Arguments as NumPy takes them: arrays from nested sequences, axes, and plain values for what Python decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from chainrule.ir.primitive import is_tracer, ops
from chainrule.trace.numpy_protocols import define_operand


def as_array(x: Any, dtype: Any = None) -> Any:
    """x as an array or tracer; nested sequences with tracers in them are stacked."""
    if is_tracer(x):
        pass
    elif isinstance(x, list | tuple):
        x = _stacked([as_array(item) for item in x]) if _holds_tracer(x) else np.asarray(x)
    elif isinstance(x, np.ndarray) and x.dtype.kind == "O" and _holds_tracer(x.ravel().tolist()):
        x = ops.reshape(_stacked([as_array(item) for item in x.ravel().tolist()]), shape=x.shape)
    else:
        x = np.asarray(x)
    return x if dtype is None else x.astype(np.dtype(dtype))


def in_dtype(x: Any, dtype: Any) -> Any:
    """An array or tracer in a dtype; itself where it has that one."""
    return x if x.dtype == dtype else x.astype(dtype)


def result_dtype(items: Sequence[Any]) -> np.dtype[Any]:
    """The dtype of values together; Python numbers among them take that of the others."""
    return np.result_type(*(x if isinstance(x, bool | int | float | complex) else as_array(x).dtype for x in items))


def as_objects(x: Any) -> Any:
    """A traced array as an array of objects, its elements: what NumPy computes with their operators."""
    items = np.fromiter((x[i] for i in np.ndindex(x.shape)), object, x.size)
    return items.reshape(x.shape)


define_operand(as_array)


def _stacked(parts: Sequence[Any]) -> Any:
    if any(p.shape != parts[0].shape for p in parts):
        raise ValueError(
            "setting an array element with a sequence. The requested array has an inhomogeneous shape: "
            f"its items have shapes {', '.join(str(p.shape) for p in parts)}"
        )
    return ops.concatenate(*(ops.reshape(p, shape=(1, *p.shape)) for p in parts), axis=0)


def _holds_tracer(x: Any) -> bool:
    return any(_holds_tracer(i) for i in x) if isinstance(x, list | tuple) else is_tracer(x)


def decide(x: Any) -> Any:
    """The plain value of x for Python to decide by; a program remembers the decision, and a batch refuses it."""
    return x.owner.decide(x) if is_tracer(x) else x


def axis_index(axis: Any, ndim: int) -> int:
    """One axis as a non-negative number; NumPy's AxisError where there is no such axis."""
    return int(normalize_axis_index(axis, ndim))


def axis_tuple(axis: Any, ndim: int) -> tuple[int, ...]:
    """NumPy's `axis` argument as a sorted tuple of non-negative axes; None stands for all."""
    if axis is None:
        return tuple(range(ndim))
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    return tuple(sorted(normalize_axis_tuple(axis, ndim)))


def sole_axis(a: Any, axis: Any) -> tuple[Any, int]:
    """The array and one axis of it; flattened where axis is None."""
    a = as_array(a)
    if axis is None:
        return ops.reshape(a, shape=(a.size,)), 0
    return a, axis_index(axis, a.ndim)


def keep_axes(out: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    """The reduced result with the reduced axes kept at extent one."""
    return ops.reshape(out, shape=tuple(1 if i in axes else n for i, n in enumerate(shape)))


def extent(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """The number of elements along axes."""
    n = 1
    for i in axes:
        n *= shape[i]
    return n


def part(a: Any, axis: int, start: int | None, stop: int | None, step: int | None = None) -> Any:
    """a[start:stop:step] along an axis."""
    return ops.slice(a, key=(slice(None),) * axis + (slice(start, stop, step),))


def zero_of(a: Any) -> Any:
    """The number zero in the dtype of a."""
    return np.zeros((), a.dtype)[()]

"""Methods of ufuncs: reduce, accumulate, outer and reduceat of every ufunc of two arguments; at is refused.

Where there is a reduction of that name it is taken; the others fold over the axis, element by element, as NumPy does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.errors import TraceError
from chainrule.ir.primitive import ops
from chainrule.numpy import cumulative, reductions
from chainrule.numpy.arguments import as_array, axis_index, axis_tuple, part, sole_axis
from chainrule.trace.numpy_protocols import UFUNC_METHODS, UFUNCS


def _reduction(reduce: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's `ufunc.reduce` from the reduction of its own name; its axis is 0 unless given."""

    def method(a: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: Any = False, **options: Any) -> Any:
        a = as_array(a, dtype)
        return reduce(a, axis, keepdims=keepdims, **options)

    return method


def _lines(a: Any, axis: int) -> list[Any]:
    return [np.squeeze(part(a, axis, i, i + 1), axis) for i in range(a.shape[axis])]


def _fold(ufunc: Any) -> Callable[..., Any]:
    def method(
        a: Any,
        axis: Any = 0,
        dtype: Any = None,
        out: Any = None,
        keepdims: Any = False,
        initial: Any = None,
        where: Any = True,
    ) -> Any:
        a = as_array(a, dtype)
        axes = axis_tuple(axis, a.ndim)
        if where is not True:
            raise TraceError(f"np.{ufunc.__name__}.reduce with where= on traced values", "Use np.where before it.")
        result = a
        for i in axes[::-1]:
            lines = _lines(result, i)
            if not lines:
                raise ValueError(f"zero-size array to reduction operation {ufunc.__name__} which has no identity")
            result = _folded(ufunc, lines)
        result = result if initial is None else ufunc(initial, result)
        return np.reshape(result, tuple(1 if i in axes else n for i, n in enumerate(a.shape))) if keepdims else result

    return method


def _folded(ufunc: Any, lines: list[Any]) -> Any:
    result = lines[0]
    for line in lines[1:]:
        result = ufunc(result, line)
    return result


def _accumulation(accumulate: Callable[..., Any]) -> Callable[..., Any]:
    def method(array: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
        a, at = sole_axis(as_array(array, dtype), axis)
        return accumulate(a, at)

    return method


def _running_fold(ufunc: Any) -> Callable[..., Any]:
    def accumulate(a: Any, axis: int) -> Any:
        lines = _lines(a, axis)
        for k in range(1, len(lines)):
            lines[k] = ufunc(lines[k - 1], lines[k])
        return np.stack(lines, axis=axis) if lines else a

    return accumulate


def _outer(ufunc: Any) -> Callable[..., Any]:
    def method(A: Any, B: Any, /, **options: Any) -> Any:
        a, b = as_array(A), as_array(B)
        return ufunc(np.reshape(a, a.shape + (1,) * b.ndim), b, **options)

    return method


def _reduceat(ufunc: Any) -> Callable[..., Any]:
    def method(array: Any, indices: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
        a = as_array(array, dtype)
        at = axis_index(axis, a.ndim)
        starts = [int(i) for i in indices]
        for i in starts:
            if not 0 <= i < a.shape[at]:
                raise IndexError(f"index {i} out-of-bounds in {ufunc.__name__}.reduceat [0, {a.shape[at]})")
        ends = [*starts[1:], a.shape[at]]
        pieces = [part(a, at, i, j if j > i else i + 1) for i, j in zip(starts, ends, strict=True)]
        return np.stack([ufunc.reduce(p, axis=at) for p in pieces], axis=at)

    return method


def _refuse_at(ufunc: Any) -> Callable[..., Any]:
    repairs = {
        "add": "Use np.bincount(indices, weights) or np.sum of np.where(indices == k, values, 0).",
        "subtract": "Use x - np.bincount(indices, weights).",
    }

    def method(*_: Any, **__: Any) -> Any:
        raise TraceError(
            f"np.{ufunc.__name__}.at writes into an array, which a trace cannot follow",
            repairs.get(ufunc.__name__, "Build the array with np.where or np.concatenate."),
        )

    return method


def _log_sum(exponential: Any, logarithm: Any) -> Callable[..., Any]:
    """The reduction of logaddexp: the logarithm of a sum of exponentials, from the largest term."""

    def reduce(a: Any, axis: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True) -> Any:
        if where is not True:
            a = ops.where(where, a, -np.inf)
        largest = ops.stop_gradient(np.max(a, axis=axis, keepdims=True))
        largest = ops.where(ops.isfinite(largest), largest, 0.0)
        summed = np.sum(exponential(a - largest), axis=axis, keepdims=True)
        at_zero = ops.equal(summed, 0)  # all terms are -inf, and so is the result, whose derivative is 0
        total = ops.where(at_zero, -np.inf, logarithm(ops.where(at_zero, 1.0, summed)) + largest)
        out = total if keepdims else np.squeeze(total, axis_tuple(axis, a.ndim))
        return out if initial is None else np.logaddexp(out, initial)

    return reduce


_REDUCTIONS: dict[Any, Callable[..., Any]] = {
    np.add: reductions.sum,
    np.multiply: reductions.prod,
    np.maximum: reductions.max,
    np.minimum: reductions.min,
    np.logical_and: lambda a, axis=0, keepdims=False, initial=None, where=True: reductions.all(
        a, axis, None, keepdims, where=where
    ),
    np.logical_or: lambda a, axis=0, keepdims=False, initial=None, where=True: reductions.any(
        a, axis, None, keepdims, where=where
    ),
    np.logaddexp: _log_sum(np.exp, np.log),
    np.logaddexp2: _log_sum(np.exp2, np.log2),
}
_ACCUMULATIONS: dict[Any, Callable[..., Any]] = {
    np.add: cumulative.cumsum,
    np.multiply: cumulative.cumprod,
    np.maximum: lambda a, axis: cumulative.running_extreme(ops.running_argmax, a, axis),
    np.minimum: lambda a, axis: cumulative.running_extreme(ops.running_argmin, a, axis),
}

for _ufunc in UFUNCS:
    if _ufunc.nin == 2 and _ufunc.nout == 1 and _ufunc.signature is None:
        UFUNC_METHODS[_ufunc, "reduce"] = _reduction(_REDUCTIONS[_ufunc]) if _ufunc in _REDUCTIONS else _fold(_ufunc)
        UFUNC_METHODS[_ufunc, "accumulate"] = _accumulation(_ACCUMULATIONS.get(_ufunc, _running_fold(_ufunc)))
        UFUNC_METHODS[_ufunc, "outer"] = _outer(_ufunc)
        UFUNC_METHODS[_ufunc, "reduceat"] = _reduceat(_ufunc)
    UFUNC_METHODS[_ufunc, "at"] = _refuse_at(_ufunc)

"""Running sums, products and extremes along an axis, and differences."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.ir.primitive import ops
from chainrule.numpy.arguments import as_array, axis_index, in_dtype, part, sole_axis
from chainrule.numpy.indexing import take_along_axis
from chainrule.trace.numpy_protocols import implements


@implements(np.cumsum, method="cumsum")
def cumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """NumPy's cumsum."""
    a, at = sole_axis(a, axis)
    a = a if dtype is None else a.astype(dtype)
    return ops.cumsum(a if a.ndim else ops.reshape(a, shape=(1,)), axis=at, reverse=False)


@implements(np.cumprod, method="cumprod")
def cumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """NumPy's cumprod; right at every order however many factors are zero."""
    a, at = sole_axis(a, axis)
    return ops.cumprod(a if dtype is None else a.astype(dtype), axis=at)


def _with_initial(a: Any, running: Any, axis: Any, dtype: Any, include_initial: bool, initial: float) -> Any:
    a = as_array(a)
    if axis is None:
        if a.ndim != 1:
            raise ValueError("For arrays which have more than one dimension ``axis`` argument is required.")
        axis = 0
    at = axis_index(axis, a.ndim)
    out = running(a, at, dtype)
    if not include_initial:
        return out
    edge = np.full((*a.shape[:at], 1, *a.shape[at + 1 :]), initial, out.dtype)
    return ops.concatenate(edge, out, axis=at)


@implements(np.cumulative_sum)
def cumulative_sum(
    x: Any, /, *, axis: Any = None, dtype: Any = None, out: Any = None, include_initial: bool = False
) -> Any:
    """NumPy's cumulative_sum."""
    return _with_initial(x, cumsum, axis, dtype, include_initial, 0)


@implements(np.cumulative_prod)
def cumulative_prod(
    x: Any, /, *, axis: Any = None, dtype: Any = None, out: Any = None, include_initial: bool = False
) -> Any:
    """NumPy's cumulative_prod."""
    return _with_initial(x, cumprod, axis, dtype, include_initial, 1)


def _without_nan(a: Any, fill: float) -> Any:
    a = as_array(a)
    return ops.where(ops.isnan(a), np.asarray(fill, a.dtype)[()], a) if a.dtype.kind in "fc" else a


@implements(np.nancumsum)
def nancumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """NumPy's nancumsum."""
    return cumsum(_without_nan(a, 0), axis, dtype)


@implements(np.nancumprod)
def nancumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """NumPy's nancumprod."""
    return cumprod(_without_nan(a, 1), axis, dtype)


def running_extreme(where_attained: Any, a: Any, axis: int) -> Any:
    """The running maximum or minimum; of equal elements the first carries the derivative."""
    return take_along_axis(a, where_attained(a, axis=axis), axis)


# ---- differences


@implements(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """NumPy's diff."""
    if n == 0:
        return a
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n!r}")
    a = as_array(a)
    if a.ndim == 0:
        raise ValueError("diff requires input that is at least one dimensional")
    at = axis_index(axis, a.ndim)
    ends = [_as_edge(e, a, at) for e in (prepend, append)]
    parts = [p for p in (ends[0], a, ends[1]) if p is not None]
    if len(parts) > 1:
        a = ops.concatenate(*parts, axis=at)
    for _ in range(n):
        later, earlier = part(a, at, 1, None), part(a, at, None, -1)
        a = ops.not_equal(later, earlier) if a.dtype.kind == "b" else later - earlier
    return a


def _as_edge(edge: Any, a: Any, axis: int) -> Any:
    if edge is None:
        return None
    edge = as_array(edge)
    return ops.broadcast_to(edge, shape=(*a.shape[:axis], 1, *a.shape[axis + 1 :])) if edge.ndim == 0 else edge


@implements(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    """NumPy's ediff1d."""
    flat = np.ravel(as_array(ary))
    parts = [flat[1:] - flat[:-1]]
    if to_begin is not None:
        parts.insert(0, np.ravel(in_dtype(as_array(to_begin), flat.dtype)))
    if to_end is not None:
        parts.append(np.ravel(in_dtype(as_array(to_end), flat.dtype)))
    return ops.concatenate(*parts, axis=0) if len(parts) > 1 else parts[0]


@implements(np.unwrap)
def unwrap(p: Any, discont: Any = None, axis: int = -1, *, period: Any = 2 * np.pi) -> Any:
    """NumPy's unwrap: each element moved by whole periods, so its derivative is the identity."""
    p = as_array(p)
    at = axis_index(axis, p.ndim)
    p = p if p.dtype.kind == "f" else p.astype(float)
    discont = period / 2 if discont is None else discont
    steps = ops.stop_gradient(diff(p, axis=at))
    half = period / 2
    wrapped = ops.remainder(steps + half, period) - half
    wrapped = ops.where(ops.logical_and(ops.equal(wrapped, -half), ops.greater(steps, 0)), half, wrapped)
    moves = ops.where(ops.less(ops.absolute(steps), discont), 0.0, wrapped - steps)
    moves = ops.cumsum(moves, axis=at, reverse=False)
    moves = moves if moves.dtype == p.dtype else moves.astype(p.dtype)
    return ops.concatenate(part(p, at, 0, 1), part(p, at, 1, None) + moves, axis=at)

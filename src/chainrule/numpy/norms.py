"""Norms, and what is decided by them: norm, vector_norm, matrix_norm, cond, matrix_rank.

At zero, where a norm has a kink, its derivative is 0, and so is that of |x_i| at x_i = 0; where several rows, columns or elements
tie for the largest, they share evenly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.ir.primitive import ops
from chainrule.numpy.arguments import as_array, axis_index, axis_tuple, extent, keep_axes
from chainrule.prims.matrices import from_triangle, real_dtype
from chainrule.trace.numpy_protocols import implements

Axes = tuple[int, ...]


def as_floating(x: Any) -> Any:
    """x as an array or tracer of floating or complex dtype."""
    x = as_array(x)
    return x if x.dtype.kind in "fc" else x.astype(float)


def singular_values(a: Any) -> Any:
    """The singular values of a stack of matrices, in descending order."""
    return ops.svd(a)[1]


def matrices_last(x: Any, axes: Axes) -> Any:
    """x with two of its axes moved to the end."""
    rest = [i for i in range(x.ndim) if i not in axes]
    order = (*rest, *axes)
    return x if order == tuple(range(x.ndim)) else ops.transpose(x, axes=order)


def _power(x: Any, p: float) -> Any:
    """x^p of x >= 0, constant at zero."""
    at_zero = ops.equal(x, 0)
    return ops.where(at_zero, 0.0 if p > 0 else np.inf, ops.power(ops.where(at_zero, 1.0, x), p))


def _vector_norm(x: Any, ord: Any, axis: int) -> Any:
    axes = (axis,)
    if ord is None or ord == 2:
        return ops.reduce_norm(x, axes=axes)
    if isinstance(ord, str):
        raise ValueError(f"Invalid norm order '{ord}' for vectors")
    if ord == 0:
        return ops.reduce_sum(ops.convert(ops.not_equal(x, 0), dtype=real_dtype(x.dtype)), axes=axes)
    size = ops.absolute(x)
    if ord == np.inf:
        return ops.reduce_max(size, axes=axes)
    if ord == -np.inf:
        return ops.reduce_min(size, axes=axes)
    if ord == 1:
        return ops.reduce_sum(size, axes=axes)
    p = float(ord)
    return _power(ops.reduce_sum(_power(size, p), axes=axes), 1 / p)


def _matrix_norm(x: Any, ord: Any, axes: Axes) -> Any:
    if ord in (None, "fro", "f"):
        return ops.reduce_norm(x, axes=axes)
    x = matrices_last(x, axes)
    last = x.ndim - 2
    if ord == "nuc":
        return ops.reduce_sum(singular_values(x), axes=(last,))
    if isinstance(ord, str) or ord not in (1, -1, 2, -2, np.inf, -np.inf):
        raise ValueError("Invalid norm order for matrices.")
    measure = ops.reduce_max if ord > 0 else ops.reduce_min
    if abs(ord) == 2:
        return measure(singular_values(x), axes=(last,))
    summed = last if abs(ord) == 1 else last + 1
    return measure(ops.reduce_sum(ops.absolute(x), axes=(summed,)), axes=(last,))


@implements(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """NumPy's norm; its derivative at zero is 0."""
    x = as_floating(x)
    every = tuple(range(x.ndim))
    axes: Axes = every if axis is None else (axis if isinstance(axis, tuple) else (axis,))
    axes = tuple(axis_index(a, x.ndim) for a in axes)
    if axis is None and (ord is None or (ord == 2 and x.ndim == 1)):
        out = ops.reduce_norm(x, axes=every)
    elif len(axes) == 1:
        out = _vector_norm(x, ord, axes[0])
    elif len(axes) == 2:
        if axes[0] == axes[1]:
            raise ValueError("Duplicate axes given.")
        out = _matrix_norm(x, ord, axes)
    else:
        raise ValueError("Improper number of dimensions to norm.")
    return keep_axes(out, x.shape, axes) if keepdims else out


@implements(np.linalg.vector_norm)
def vector_norm(
    x: Any,
    /,
    *,
    axis: Any = None,
    keepdims: bool = False,
    ord: Any = 2,
) -> Any:
    """NumPy's vector_norm, over any number of axes."""
    x = as_floating(x)
    axes = axis_tuple(axis, x.ndim)
    rest = [i for i in range(x.ndim) if i not in axes]
    flat = ops.reshape(
        ops.transpose(x, axes=(*rest, *axes)), shape=(*(x.shape[i] for i in rest), extent(x.shape, axes))
    )
    out = _vector_norm(flat, ord, len(rest))
    return keep_axes(out, x.shape, axes) if keepdims else out


@implements(np.linalg.matrix_norm)
def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    """NumPy's matrix_norm, over the last two axes."""
    return norm(x, ord, (-2, -1), keepdims)


@implements(np.linalg.cond)
def cond(x: Any, p: Any = None) -> Any:
    """NumPy's condition number; inf for a singular matrix."""
    x = as_floating(x)
    if x.size == 0 and 0 in x.shape[-2:]:
        raise np.linalg.LinAlgError("cond is not defined on empty arrays")
    if p is None or p in (2, -2):
        s = singular_values(x)
        largest, smallest = s[..., 0], s[..., -1]
        r = smallest / largest if p == -2 else largest / smallest
    else:
        r = norm(x, p, (-2, -1)) * norm(ops.inv(x, singular="nan"), p, (-2, -1))
    given = ops.isnan(ops.reduce_sum(ops.absolute(x), axes=(x.ndim - 2, x.ndim - 1)))
    return ops.where(ops.logical_and(ops.isnan(r), ops.logical_not(given)), np.inf, r)


@implements(np.linalg.matrix_rank)
def matrix_rank(A: Any, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    """NumPy's matrix_rank: an integer, which carries no derivative."""
    if rtol is not None and tol is not None:
        raise ValueError("`tol` and `rtol` can't be both set.")
    A = ops.stop_gradient(as_floating(A))
    if A.ndim < 2:
        nonzero = ops.reduce_sum(ops.where(ops.not_equal(A, 0), 1, 0), axes=tuple(range(A.ndim)))
        return ops.minimum(nonzero, 1)
    if hermitian:
        A = from_triangle(A.shape[-1], lower=True).apply(A)
    s = singular_values(A)
    if tol is not None:
        threshold = as_array(tol)[..., None]
    else:
        factor = max(A.shape[-2:]) * np.finfo(s.dtype).eps if rtol is None else as_array(rtol)[..., None]
        threshold = s[..., :1] * factor
    return ops.reduce_sum(ops.greater(s, threshold), axes=(s.ndim - 1,))

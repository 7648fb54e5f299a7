"""Reductions over axes: sums, products, means, spreads and extremes, and the same without NaN.

Kinks: ties of max and min share evenly; the derivative of std is 0 where the variance is 0.
"""

from __future__ import annotations

import builtins
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.ir.primitive import is_tracer, ops
from chainrule.numpy.arguments import as_array, axis_index, axis_tuple, extent, keep_axes, zero_of
from chainrule.trace.numpy_protocols import METHODS, implements


def _reduced(primitive: Any, a: Any, axis: Any, keepdims: Any) -> Any:
    # Of an array of rank 0 NumPy's reductions take an axis for none, if it is a number.
    axes = () if a.ndim == 0 and type(axis) is int and axis in (0, -1) else axis_tuple(axis, a.ndim)
    out = primitive(a, axes=axes)
    return keep_axes(out, a.shape, axes) if keepdims is True else out


def _masked(a: Any, where: Any, fill: Any) -> Any:
    """a with a constant where the mask does not hold; NumPy's error where the mask is larger than a."""
    if where is True:
        return a
    where = as_array(where)
    if np.broadcast_shapes(where.shape, a.shape) != a.shape:
        raise ValueError(
            f"non-broadcastable output operand with shape {a.shape} doesn't match the broadcast shape "
            f"{np.broadcast_shapes(where.shape, a.shape)}"
        )
    return ops.where(where, a, np.asarray(fill, a.dtype)[()])


@implements(np.sum, method="sum")
def sum(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """NumPy's sum."""
    if axis is None and dtype is None and initial is None and where is True and keepdims is not True and is_tracer(a):
        return ops.reduce_sum(a, axes=tuple(range(a.ndim)))
    a = _masked(as_array(a, dtype), where, 0)
    total = _reduced(ops.reduce_sum, a, axis, keepdims)
    return total if initial is None else total + initial


@implements(np.prod, method="prod")
def prod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """NumPy's prod; right at every order however many factors are zero."""
    a = _masked(as_array(a, dtype), where, 1)
    total = _reduced(ops.reduce_prod, a, axis, keepdims)
    return total if initial is None else total * initial


def extreme(primitive: Any, bound: Any, name: str) -> Callable[..., Any]:
    """NumPy's max or min, from its primitive and its elementwise counterpart."""

    def reduction(
        a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
    ) -> Any:
        a = as_array(a)
        if where is not True:
            if initial is None:
                raise ValueError(
                    f"reduction operation '{name}' does not have an identity, so to use a where mask one has to specify 'initial'"
                )
            a = _masked(a, where, initial)
        found = _reduced(primitive, a, axis, keepdims)
        return found if initial is None else bound(found, initial)

    return reduction


max = implements(np.max, np.amax, method="max")(extreme(ops.reduce_max, ops.maximum, "maximum"))
min = implements(np.min, np.amin, method="min")(extreme(ops.reduce_min, ops.minimum, "minimum"))


@implements(np.ptp)
def ptp(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    """NumPy's ptp: the largest less the smallest."""
    return max(a, axis, keepdims=keepdims) - min(a, axis, keepdims=keepdims)


# ---- means and spreads


def _count(a: Any, axes: tuple[int, ...], keepdims: Any, where: Any) -> Any:
    """How many elements a mean is taken over: a Python number, or an array of the real dtype of a."""
    if where is True:
        return extent(a.shape, axes)
    mask = ops.broadcast_to(as_array(where, bool), shape=a.shape)
    return ops.discretise(sum(mask, axes, keepdims=keepdims), dtype=np.empty(0, a.dtype).real.dtype)


def _widened(a: Any, dtype: Any) -> tuple[Any, Any]:
    """The array in the dtype that NumPy takes means in, and the dtype of the result where that is another."""
    if dtype is not None:
        return a.astype(dtype), None
    kind = a.dtype.char
    if kind in "dfDF":
        return a, None
    if a.dtype.kind in "iub":
        return a.astype(float), None
    return (a.astype(np.float32), a.dtype) if kind == "e" else (a, None)


def _warn_if_empty(count: Any, what: str) -> None:
    if isinstance(count, int) and count <= 0:
        warnings.warn(what, RuntimeWarning, stacklevel=5)


@implements(np.mean, method="mean")
def mean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True
) -> Any:
    """NumPy's mean."""
    a, result_dtype = _widened(as_array(a), dtype)
    axes = axis_tuple(axis, a.ndim)
    count = _count(a, axes, keepdims, where)
    _warn_if_empty(count, "Mean of empty slice.")
    average = sum(a, axes, keepdims=keepdims, where=where) / count
    return average if result_dtype is None else average.astype(result_dtype)


def _squares(x: Any) -> Any:
    """|x|^2."""
    if x.dtype.kind == "c":
        return ops.square(ops.real(x)) + ops.square(ops.imag(x))
    return ops.square(x)


@implements(np.var, method="var")
def var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    """NumPy's var."""
    if correction is not None:
        if ddof != 0:
            raise ValueError("ddof and correction can't be provided simultaneously.")
        ddof = correction
    a, result_dtype = _widened(as_array(a), dtype)
    axes = axis_tuple(axis, a.ndim)
    centre = _mean(a, axes, keepdims=True, where=where) if mean is None else mean
    total = sum(_squares(a - centre), axes, keepdims=keepdims, where=where)
    freedom = _count(a, axes, keepdims, where)
    if isinstance(freedom, int):
        _warn_if_empty(freedom - ddof, "Degrees of freedom <= 0 for slice")
        spread = total / builtins.max(freedom - ddof, 0)
    else:
        spread = total / ops.maximum(freedom - ddof, zero_of(freedom))
    return spread if result_dtype is None else spread.astype(result_dtype)


_mean = mean


def zero_safe_sqrt(x: Any) -> Any:
    """The square root, with derivative 0 at 0: where x is a sum of squares, the derivative of its norm has a kink there."""
    at_zero = ops.equal(x, 0)
    return ops.where(at_zero, zero_of(x), ops.sqrt(ops.where(at_zero, np.ones((), x.dtype)[()], x)))


@implements(np.std, method="std")
def std(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    """NumPy's std; its derivative where the variance is 0 is 0."""
    a = as_array(a)
    half = dtype is None and a.dtype == np.float16
    spread = var(
        a, axis, np.float32 if half else dtype, None, ddof, keepdims, where=where, mean=mean, correction=correction
    )
    root = zero_safe_sqrt(spread)
    return root.astype(np.float16) if half else root


@implements(np.average)
def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Any:
    """NumPy's average; differentiable in the weights too."""
    a = as_array(a)
    if weights is None:
        found = mean(a, axis, keepdims=keepdims)
        total = np.full(found.shape, a.size / (found.size or 1), found.dtype)
    else:
        weights = _fitting_weights(a, as_array(weights), axis)
        axes = axis_tuple(axis, a.ndim)
        total = sum(ops.broadcast_to(weights, shape=a.shape), axes, keepdims=keepdims)
        if not is_tracer(total) and np.any(total == 0):
            raise ZeroDivisionError("Weights sum to zero, can't be normalized")
        found = sum(a * weights, axes, keepdims=keepdims) / total
    return (found, total) if returned else found


def _fitting_weights(a: Any, weights: Any, axis: Any) -> Any:
    if weights.shape == a.shape:
        return weights
    if axis is None:
        raise TypeError("Axis must be specified when shapes of a and weights differ.")
    if isinstance(axis, tuple):
        raise ValueError("Shape of weights must be consistent with shape of a along specified axis.")
    at = axis_index(axis, a.ndim)
    if weights.shape != (a.shape[at],):
        raise ValueError("Shape of weights must be consistent with shape of a along specified axis.")
    return ops.reshape(weights, shape=tuple(n if i == at else 1 for i, n in enumerate(a.shape)))


# ---- without NaN


def _filled(a: Any, fill: Any) -> tuple[Any, Any]:
    """a with a constant in the place of NaN, and where it had no NaN; True where it cannot have."""
    a = as_array(a)
    if a.dtype.kind not in "fc":
        return a, True
    mask = ops.isnan(a)
    return ops.where(mask, np.asarray(fill, a.dtype)[()], a), ops.logical_not(mask)


@implements(np.nansum)
def nansum(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """NumPy's nansum."""
    return sum(_filled(a, 0)[0], axis, dtype, None, keepdims, initial, where)


@implements(np.nanprod)
def nanprod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """NumPy's nanprod."""
    return prod(_filled(a, 1)[0], axis, dtype, None, keepdims, initial, where)


def _both(where: Any, present: Any) -> Any:
    if where is True or present is True:
        return present if where is True else where
    return ops.logical_and(as_array(where), present)


@implements(np.nanmean)
def nanmean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True
) -> Any:
    """NumPy's nanmean."""
    filled, present = _filled(a, 0)
    return mean(filled, axis, dtype, None, keepdims, where=_both(where, present))


@implements(np.nanvar)
def nanvar(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    """NumPy's nanvar."""
    filled, present = _filled(a, 0)
    where = _both(where, present)
    ddof = ddof if correction is None else correction
    if where is True:
        return var(filled, axis, dtype, None, ddof, keepdims, mean=mean)
    found = var(filled, axis, dtype, None, ddof, keepdims, where=where, mean=mean)
    freedom = _count(filled, axis_tuple(axis, filled.ndim), keepdims, where) - ddof
    return ops.where(ops.greater(freedom, 0), found, np.nan)


@implements(np.nanstd)
def nanstd(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    """NumPy's nanstd; its derivative where the variance is 0 is 0."""
    spread = nanvar(a, axis, dtype, None, ddof, keepdims, where=where, mean=mean, correction=correction)
    return zero_safe_sqrt(spread)


def _nan_extreme(reduction: Callable[..., Any], bound: float) -> Callable[..., Any]:
    def nan_reduction(
        a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
    ) -> Any:
        filled, present = _filled(a, bound)
        found = reduction(filled, axis, None, keepdims, initial, where)
        if present is True or initial is not None:
            return found
        some = _reduced(ops.any_of, present, axis, keepdims)
        if not is_tracer(some) and not np.all(some):
            warnings.warn("All-NaN slice encountered", RuntimeWarning, stacklevel=4)
        return ops.where(some, found, np.nan)

    return nan_reduction


nanmax = implements(np.nanmax)(_nan_extreme(max, -np.inf))
nanmin = implements(np.nanmin)(_nan_extreme(min, np.inf))

# ---- truth and counts, which carry no derivative


def _truth(primitive: Any) -> Callable[..., Any]:
    def reduction(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True) -> Any:
        a = ops.not_equal(as_array(a), 0)
        return _reduced(primitive, _masked(a, where, primitive is ops.all_of), axis, keepdims)

    return reduction


all = implements(np.all, method="all")(_truth(ops.all_of))
any = implements(np.any, method="any")(_truth(ops.any_of))


@implements(np.count_nonzero)
def count_nonzero(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    """NumPy's count_nonzero."""
    return _reduced(ops.count_true, as_array(a), axis, keepdims)


def _ptp_method(*_: Any, **__: Any) -> Any:
    raise AttributeError("`ptp` was removed from the ndarray class in NumPy 2.0. Use np.ptp(arr, ...) instead.")


METHODS["ptp"] = _ptp_method

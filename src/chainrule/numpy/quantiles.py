"""Median, quantile and percentile: combinations of sorted elements, differentiable in the elements and in q.

The derivative with respect to q is the slope between the two neighbours; at ties the elements keep their order in the array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.errors import MissingRule
from chainrule.ir.primitive import is_tracer, ops
from chainrule.linear.maps import Slot
from chainrule.numpy.arguments import as_array, axis_tuple, extent, in_dtype, keep_axes
from chainrule.numpy.indexing import take
from chainrule.numpy.shaping import transpose
from chainrule.numpy.sorting import sort
from chainrule.trace.numpy_protocols import implements

# Where the quantile lies in n sorted elements: n q + alpha + q (1 - alpha - beta) - 1 (Hyndman and Fan, 1996).
_CONTINUOUS: dict[str, tuple[float, float]] = {
    "interpolated_inverted_cdf": (0.0, 1.0),
    "hazen": (0.5, 0.5),
    "weibull": (0.0, 0.0),
    "linear": (1.0, 1.0),
    "median_unbiased": (1 / 3, 1 / 3),
    "normal_unbiased": (3 / 8, 3 / 8),
}


def _hyndman_fan(n: int, q: Any, alpha: float, beta: float) -> Any:
    return n * q + (alpha + q * (1 - alpha - beta)) - 1


def _nearest_even(n: int, q: Any) -> Any:
    place = n * q - 1.5
    below = ops.floor(place)
    tie = ops.logical_and(ops.equal(place, below), ops.equal(ops.remainder(below, 2), 1))
    return below + ops.where(tie, 0.0, 1.0)


def _averaged(n: int, q: Any) -> Any:
    place = n * q - 1
    below = ops.floor(place)
    return below + ops.where(ops.equal(place, below), 0.5, 1.0)


# Places that are steps in q, whose derivative in q is zero.
_STEPS: dict[str, Callable[[int, Any], Any]] = {
    "lower": lambda n, q: ops.floor((n - 1) * q),
    "higher": lambda n, q: ops.ceil((n - 1) * q),
    "midpoint": lambda n, q: 0.5 * (ops.floor((n - 1) * q) + ops.ceil((n - 1) * q)),
    "nearest": lambda n, q: ops.rint((n - 1) * q),
    "inverted_cdf": lambda n, q: ops.ceil(n * q - 1),
    "averaged_inverted_cdf": _averaged,
    "closest_observation": _nearest_even,
}


def _place(method: str, n: int, q: Any) -> Any:
    if method in _STEPS:
        return ops.stop_gradient(_STEPS[method](n, q))
    if method == "linear":
        return (n - 1) * q
    if method not in _CONTINUOUS:
        raise ValueError(f"{method!r} is not a valid method. Use one of: {sorted({*_CONTINUOUS, *_STEPS})}")
    return _hyndman_fan(n, q, *_CONTINUOUS[method])


def _lines(a: Any, axis: Any) -> tuple[Any, tuple[int, ...]]:
    """a with the reduced axes flattened into one in front, and what they were."""
    axes = axis_tuple(axis, a.ndim)
    rest = tuple(i for i in range(a.ndim) if i not in axes)
    moved = transpose(a, (*axes, *rest))
    return ops.reshape(moved, shape=(extent(a.shape, axes), *(a.shape[i] for i in rest))), axes


def _between(low: Any, high: Any, weight: Any) -> Any:
    """Linear interpolation, from the nearer end, as NumPy rounds it."""
    gap = high - low
    return ops.where(ops.greater_equal(weight, 0.5), high - gap * (1 - weight), low + gap * weight)


def _quantile_of_lines(ordered: Any, q: Any, n: Any, method: str) -> Any:
    """The quantiles of sorted lines along the first axis, of which the first n elements count."""
    place = ops.minimum(ops.maximum(_place(method, n, q), 0.0), n - 1.0)
    below = ops.discretise(ops.floor(place), dtype=np.dtype(np.intp))
    above = ops.minimum(below + 1, n - 1)
    weight = place - ops.floor(place)
    low, high = take(ordered, below, 0), take(ordered, above, 0)
    weight = ops.reshape(weight, shape=(*q.shape, *(1,) * (ordered.ndim - 1)))
    weight = weight if weight.dtype == ordered.dtype or ordered.dtype.kind != "f" else weight.astype(ordered.dtype)
    return _between(low, high, weight)


def _check(q: Any) -> None:
    if not is_tracer(q) and q.size and not (q.min() >= 0 and q.max() <= 1):
        raise ValueError("Quantiles must be in the range [0, 1]")


def _kept(out: Any, a: Any, axes: tuple[int, ...], q: Any, keepdims: bool) -> Any:
    if not keepdims:
        return out
    return ops.reshape(out, shape=(*q.shape, *(1 if i in axes else n for i, n in enumerate(a.shape))))


@implements(np.quantile)
def quantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    """NumPy's quantile, without weights."""
    if weights is not None:
        raise MissingRule(
            "`numpy.quantile` with weights= is not covered", "Repeat the elements, or use np.average of chosen ones."
        )
    a = as_array(a)
    q = np.asarray(q, a.dtype) if isinstance(q, int | float) and a.dtype.kind == "f" else as_array(q)
    if a.dtype.kind == "c":
        raise TypeError("a must be an array of real numbers")
    q = q if q.dtype.kind == "f" else q.astype(float)
    _check(q)
    lines, axes = _lines(in_dtype(a, np.promote_types(a.dtype if a.dtype.kind == "f" else float, q.dtype)), axis)
    ordered = sort(lines, 0)
    found = _quantile_of_lines(ordered, q, lines.shape[0], method)
    last = ordered[-1]
    return _kept(ops.where(ops.isnan(last), last, found), a, axes, q, keepdims)


@implements(np.percentile)
def percentile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    """NumPy's percentile, without weights."""
    if not is_tracer(q) and np.size(q) and not (np.min(q) >= 0 and np.max(q) <= 100):
        raise ValueError("Percentiles must be in the range [0, 100]")
    return quantile(
        a,
        q / 100 if isinstance(q, int | float) else as_array(q) / 100,
        axis,
        None,
        False,
        method,
        keepdims,
        weights=weights,
    )


@implements(np.median)
def median(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False) -> Any:
    """NumPy's median; of an even number of elements the mean of the middle two."""
    a = as_array(a)
    lines, axes = _lines(a if a.dtype.kind in "fc" else a.astype(float), axis)
    n = lines.shape[0]
    if n == 0:
        return np.mean(a, axis=axis, keepdims=keepdims)
    ordered = sort(lines, 0)
    middle = ordered[n // 2]
    found = middle if n % 2 else (ordered[n // 2 - 1] + middle) / 2
    last = ordered[n - 1]
    found = ops.where(ops.isnan(last), last, found)
    return keep_axes(found, a.shape, axes) if keepdims else found


# ---- without NaN: NaN sort last, and only the elements before them count


def _present(ordered: Any) -> Any:
    """How many elements of each line are no NaN."""
    return ops.convert(np.sum(ops.logical_not(ops.isnan(ordered)), axis=0), dtype=np.dtype(float))


def _quantile_of_present(ordered: Any, q: Any, method: str) -> Any:
    """The quantiles of sorted lines, whose NaN stand last; how many count differs from line to line."""
    count = _present(ordered)
    q = ops.reshape(q, shape=(*q.shape, *(1,) * (ordered.ndim - 1)))
    place = ops.minimum(ops.maximum(_place(method, count, q), 0.0), ops.maximum(count - 1.0, 0.0))
    below = ops.floor(place)
    above = ops.minimum(below + 1.0, ops.maximum(count - 1.0, 0.0))
    return _between(_at(ordered, below), _at(ordered, above), place - below)


def _at(ordered: Any, index: Any) -> Any:
    """The elements of the first axis at indices for each of the other axes' elements, laid along the indices' first axes."""
    index = ops.discretise(index, dtype=np.dtype(np.intp))
    if ordered.ndim == 1:
        return take(ordered, index)
    rest = ordered.shape[1:]
    grid = [np.arange(n).reshape((-1,) + (1,) * (len(rest) - 1 - i)) for i, n in enumerate(rest)]
    return ops.gather(ordered, index, *grid, key=tuple(Slot(i) for i in range(ordered.ndim)))


@implements(np.nanquantile)
def nanquantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    """NumPy's nanquantile, without weights."""
    if weights is not None:
        raise MissingRule(
            "`numpy.nanquantile` with weights= is not covered", "Repeat the elements, or mask them with NaN."
        )
    a, q = as_array(a), as_array(q, float)
    _check(q)
    lines, axes = _lines(a if a.dtype.kind == "f" else a.astype(float), axis)
    return _kept(_quantile_of_present(sort(lines, 0), q, method), a, axes, q, keepdims)


@implements(np.nanpercentile)
def nanpercentile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    """NumPy's nanpercentile, without weights."""
    return nanquantile(a, as_array(q) / 100, axis, None, False, method, keepdims, weights=weights)


@implements(np.nanmedian)
def nanmedian(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False) -> Any:
    """NumPy's nanmedian."""
    a = as_array(a)
    lines, axes = _lines(a if a.dtype.kind == "f" else a.astype(float), axis)
    if lines.shape[0] == 0:
        return median(a, axis, keepdims=keepdims is True)
    ordered = sort(lines, 0)
    count = _present(ordered)
    below, above = ops.maximum(ops.floor((count - 1.0) / 2), 0.0), ops.floor(count / 2)
    above = ops.minimum(above, lines.shape[0] - 1.0)
    low, high = _at(ordered, below), _at(ordered, above)
    found = ops.where(ops.equal(below, above), low, (low + high) / 2)
    return keep_axes(found, a.shape, axes) if keepdims is True else found

"""Sorting and searching. Sorted elements carry their derivatives; where they were found does not."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from chainrule.errors import MissingRule
from chainrule.ir.primitive import is_tracer, ops
from chainrule.numpy.arguments import as_array, axis_index, decide, sole_axis
from chainrule.numpy.indexing import take, take_along_axis
from chainrule.trace.numpy_protocols import implements

Kind = str | None


def _kind(kind: Kind, stable: bool | None) -> str:
    return "stable" if stable or kind is None else kind


@implements(np.argsort, method="argsort")
def argsort(a: Any, axis: Any = -1, kind: Kind = None, order: Any = None, *, stable: bool | None = None) -> Any:
    """NumPy's argsort: integers, which carry no derivative."""
    a, at = sole_axis(a, axis)
    return ops.argsort(a, axis=at, kind="quicksort" if kind is None and not stable else _kind(kind, stable))


@implements(np.sort)
def sort(a: Any, axis: Any = -1, kind: Kind = None, order: Any = None, *, stable: bool | None = None) -> Any:
    """NumPy's sort; equal elements keep their order, and so do their derivatives."""
    a, at = sole_axis(a, axis)
    return take_along_axis(a, ops.argsort(a, axis=at, kind="stable"), at)


@implements(np.sort_complex)
def sort_complex(a: Any) -> Any:
    """NumPy's sort_complex."""
    a = sort(as_array(a))
    return a if a.dtype.kind == "c" else a.astype(np.result_type(a.dtype, np.complex64))


@implements(np.argpartition, method="argpartition")
def argpartition(a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None) -> Any:
    """NumPy's argpartition: integers, which carry no derivative."""
    a, at = sole_axis(a, axis)
    kth = tuple(int(k) for k in np.atleast_1d(kth))
    return ops.argpartition(a, axis=at, kth=kth)


@implements(np.partition)
def partition(a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None) -> Any:
    """NumPy's partition."""
    a, at = sole_axis(a, axis)
    return take_along_axis(a, argpartition(a, kth, at), at)


@implements(np.lexsort)
def lexsort(keys: Any, axis: int = -1) -> Any:
    """NumPy's lexsort, by stable sorts from the first key, the least, to the last."""
    rows = list(keys) if isinstance(keys, list | tuple) else [keys[i] for i in range(len(keys))]
    columns = [as_array(k) for k in rows]
    at = axis_index(axis, columns[0].ndim)
    order = ops.argsort(columns[0], axis=at, kind="stable")
    for column in columns[1:]:
        again = ops.argsort(take_along_axis(column, order, at), axis=at, kind="stable")
        order = take_along_axis(order, again, at)
    return order


# ---- the places of extremes


def _place_of(primitive: Any, a: Any, axis: Any, keepdims: Any) -> Any:
    a = as_array(a)
    lines, at = sole_axis(a, axis)
    found = primitive(lines, axis=at)
    if keepdims is not True:
        return found
    return ops.reshape(found, shape=tuple(1 if axis is None or i == at else n for i, n in enumerate(a.shape)))


@implements(np.argmax, method="argmax")
def argmax(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
    """NumPy's argmax: integers, which carry no derivative."""
    return _place_of(ops.argmax, a, axis, keepdims)


@implements(np.argmin, method="argmin")
def argmin(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
    """NumPy's argmin: integers, which carry no derivative."""
    return _place_of(ops.argmin, a, axis, keepdims)


def _nan_place(primitive: Any, a: Any, axis: Any, keepdims: Any, bound: float) -> Any:
    a = as_array(a)
    absent = ops.isnan(a)
    found = np.all(absent, axis=axis)
    if not is_tracer(found) and np.any(found):
        raise ValueError("All-NaN slice encountered")
    return _place_of(primitive, ops.where(absent, bound, a), axis, keepdims)


@implements(np.nanargmax)
def nanargmax(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
    """NumPy's nanargmax: integers, which carry no derivative."""
    return _nan_place(ops.argmax, a, axis, keepdims, -np.inf)


@implements(np.nanargmin)
def nanargmin(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
    """NumPy's nanargmin: integers, which carry no derivative."""
    return _nan_place(ops.argmin, a, axis, keepdims, np.inf)


# ---- the places of values


@implements(np.searchsorted, method="searchsorted")
def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    """NumPy's searchsorted: integers, which carry no derivative."""
    a = as_array(a)
    if sorter is not None:
        a = take(a, sorter)
    return ops.searchsorted(a, as_array(v), side=side)


@implements(np.digitize)
def digitize(x: Any, bins: Any, right: bool = False) -> Any:
    """NumPy's digitize: integers, which carry no derivative."""
    bins = as_array(bins)
    side = "left" if right else "right"
    if decide(np.all(ops.greater_equal(bins[1:], bins[:-1]))):
        return searchsorted(bins, x, side)
    if decide(np.all(ops.less_equal(bins[1:], bins[:-1]))):
        return len(bins) - searchsorted(bins[::-1], x, "right" if right else "left")
    raise ValueError("bins must be monotonically increasing or decreasing")


@implements(np.nonzero, method="nonzero")
def nonzero(a: Any) -> tuple[Any, ...]:
    """NumPy's nonzero: plain integers; how many there are is decided now, so it cannot be batched."""
    mask = decide(ops.not_equal(as_array(a), 0))
    if np.ndim(mask) == 0:
        raise ValueError("Calling nonzero on 0d arrays is not allowed. Use np.atleast_1d(scalar).nonzero() instead.")
    return tuple(np.nonzero(mask))


@implements(np.flatnonzero)
def flatnonzero(a: Any) -> Any:
    """NumPy's flatnonzero."""
    a = as_array(a)
    return nonzero(ops.reshape(a, shape=(a.size,)))[0]


@implements(np.argwhere)
def argwhere(a: Any) -> Any:
    """NumPy's argwhere."""
    return np.argwhere(decide(ops.not_equal(as_array(a), 0)))


@implements(np.isin)
def isin(
    element: Any, test_elements: Any, assume_unique: bool = False, invert: bool = False, *, kind: Any = None
) -> Any:
    """NumPy's isin: booleans, which carry no derivative."""
    x, among = as_array(element), as_array(test_elements)
    hits = ops.equal(ops.reshape(x, shape=(*x.shape, 1)), ops.reshape(among, shape=(among.size,)))
    found = ops.any_of(hits, axes=(x.ndim,))
    return ops.logical_not(found) if invert else found


# ---- distinct elements


def _groups(a: Any, equal_nan: bool) -> tuple[Any, Any, Any]:
    """The flat array, the order that sorts it, and where in that order a new value begins, which is decided now."""
    flat = ops.reshape(a, shape=(a.size,))
    order = ops.argsort(flat, axis=0, kind="stable")
    ordered = take(flat, order)
    fresh = ops.not_equal(ordered[1:], ordered[:-1])
    if equal_nan and a.dtype.kind in "fc":
        fresh = ops.logical_and(
            fresh, ops.logical_not(ops.logical_and(ops.isnan(ordered[1:]), ops.isnan(ordered[:-1])))
        )
    begins = np.concatenate([np.ones(min(a.size, 1), bool), decide(fresh)])
    return flat, order, begins


@implements(np.unique)
def unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: Any = None,
    *,
    equal_nan: bool = True,
    sorted: bool = True,
) -> Any:
    """NumPy's unique of all elements; of equal ones the first carries the derivative."""
    if axis is not None:
        raise NotImplementedError(
            "unique with axis= on traced values: select rows with np.unique(cr.value(x), axis=..., return_index=True)"
        )
    a = as_array(ar)
    flat, order, begins = _groups(a, equal_nan)
    index = order[np.flatnonzero(begins)]
    out: list[Any] = [take(flat, index)]
    if return_index:
        out.append(index)
    if return_inverse:
        ranks = np.cumsum(begins) - 1
        out.append(ops.reshape(take(ranks, ops.argsort(order, axis=0, kind="stable")), shape=a.shape))
    if return_counts:
        out.append(np.diff(np.append(np.flatnonzero(begins), a.size)))
    return out[0] if len(out) == 1 else tuple(out)


@implements(np.unique_values)
def unique_values(x: Any) -> Any:
    """NumPy's unique_values."""
    return unique(x, equal_nan=False)


@implements(np.unique_counts)
def unique_counts(x: Any) -> Any:
    """NumPy's unique_counts."""
    return _UniqueCounts(*unique(x, return_counts=True, equal_nan=False))


@implements(np.unique_inverse)
def unique_inverse(x: Any) -> Any:
    """NumPy's unique_inverse."""
    return _UniqueInverse(*unique(x, return_inverse=True, equal_nan=False))


@implements(np.unique_all)
def unique_all(x: Any) -> Any:
    """NumPy's unique_all."""
    return _UniqueAll(*unique(x, True, True, True, equal_nan=False))


class _UniqueCounts(NamedTuple):
    values: Any
    counts: Any


class _UniqueInverse(NamedTuple):
    values: Any
    inverse_indices: Any


class _UniqueAll(NamedTuple):
    values: Any
    indices: Any
    inverse_indices: Any
    counts: Any


def _flat(x: Any) -> Any:
    x = as_array(x)
    return ops.reshape(x, shape=(x.size,))


@implements(np.union1d)
def union1d(ar1: Any, ar2: Any) -> Any:
    """NumPy's union1d."""
    return unique(ops.concatenate(_flat(ar1), _flat(ar2), axis=0))


def _where_in(a: Any, b: Any, *, invert: bool) -> Any:
    """The distinct elements of a that are, or are not, among b."""
    a = unique(a)
    return take(a, np.flatnonzero(decide(isin(a, b, invert=invert))))


@implements(np.setdiff1d)
def setdiff1d(ar1: Any, ar2: Any, assume_unique: bool = False) -> Any:
    """NumPy's setdiff1d."""
    if assume_unique:
        a = _flat(ar1)
        return take(a, np.flatnonzero(decide(isin(a, ar2, invert=True))))
    return _where_in(ar1, ar2, invert=True)


@implements(np.intersect1d)
def intersect1d(ar1: Any, ar2: Any, assume_unique: bool = False, return_indices: bool = False) -> Any:
    """NumPy's intersect1d, without indices; the first array carries the derivative."""
    if return_indices:
        raise MissingRule(
            "`numpy.intersect1d` with return_indices=True is not covered", "Pass cr.value of both arrays."
        )
    return _where_in(ar1, ar2, invert=False)


@implements(np.setxor1d)
def setxor1d(ar1: Any, ar2: Any, assume_unique: bool = False) -> Any:
    """NumPy's setxor1d."""
    return sort(ops.concatenate(_where_in(ar1, ar2, invert=True), _where_in(ar2, ar1, invert=True), axis=0))


@implements(np.trim_zeros)
def trim_zeros(filt: Any, trim: str = "fb", axis: Any = None) -> Any:
    """NumPy's trim_zeros of a vector: which elements are zero is decided now."""
    a = as_array(filt)
    if a.ndim != 1:
        raise MissingRule("`numpy.trim_zeros` of several axes is not covered", "Take the slices yourself.")
    (kept,) = np.nonzero(decide(ops.not_equal(a, 0)))
    if not kept.size:
        return a[:0]
    start = kept[0] if "f" in trim.lower() else 0
    stop = kept[-1] + 1 if "b" in trim.lower() else a.size
    return a[int(start) : int(stop)]

"""Joining, splitting and repeating arrays."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from chainrule.errors import MissingRule, TraceError
from chainrule.ir.primitive import is_tracer, ops
from chainrule.numpy.arguments import as_array, axis_index, in_dtype, part, result_dtype, sole_axis
from chainrule.numpy.indexing import moved, moved_along, take
from chainrule.numpy.shaping import atleast_1d, atleast_2d, atleast_3d, moveaxis, ravel
from chainrule.trace.intercept import contains_tracer, intercepts
from chainrule.trace.numpy_protocols import implements


def _items(arrays: Any) -> list[Any]:
    """The arrays to join: of a sequence, or along the first axis of an array."""
    return [as_array(x) for x in arrays]


def _as_list(x: Any) -> list[Any]:
    return list(x) if isinstance(x, list | tuple) else [x]


# ---- joining


@implements(np.concatenate)
def concatenate(
    arrays: Sequence[Any], /, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: Any = "same_kind"
) -> Any:
    """NumPy's concatenate."""
    parts = _items(arrays)
    if not parts:
        raise ValueError("need at least one array to concatenate")
    if axis is None:
        parts, axis = [ravel(p) for p in parts], 0
    joined = ops.concatenate(*parts, axis=_join_axis(parts, axis))
    return joined if dtype is None else joined.astype(dtype)


def _join_axis(parts: Sequence[Any], axis: Any) -> int:
    """The axis along which arrays are joined, checked."""
    if type(axis) is int and axis == 0 and {p.ndim for p in parts} == {1}:
        return 0
    if any(p.ndim == 0 for p in parts):
        raise ValueError("zero-dimensional arrays cannot be concatenated")
    at = axis_index(axis, parts[0].ndim)
    _check_join(parts, at)
    return at


def _check_join(parts: Sequence[Any], axis: int) -> None:
    first = parts[0]
    for k, p in enumerate(parts):
        if p.ndim != first.ndim:
            raise ValueError(
                "all the input array dimensions except for the concatenation axis must match exactly, but along "
                f"dimension 0, the array at index 0 has {first.ndim} dimension(s) and the array at index {k} has "
                f"{p.ndim} dimension(s)"
            )
        for i, (n, m) in enumerate(zip(first.shape, p.shape, strict=True)):
            if i != axis and n != m:
                raise ValueError(
                    "all the input array dimensions except for the concatenation axis must match exactly, but along "
                    f"dimension {i}, the array at index 0 has size {n} and the array at index {k} has size {m}"
                )


@implements(np.stack)
def stack(
    arrays: Sequence[Any], axis: int = 0, out: Any = None, *, dtype: Any = None, casting: Any = "same_kind"
) -> Any:
    """NumPy's stack."""
    parts = _items(arrays)
    if not parts:
        raise ValueError("need at least one array to stack")
    if any(p.shape != parts[0].shape for p in parts):
        raise ValueError("all input arrays must have the same shape")
    at = axis_index(axis, parts[0].ndim + 1)
    shape = (*parts[0].shape[:at], 1, *parts[0].shape[at:])
    return concatenate([ops.reshape(p, shape=shape) for p in parts], at, dtype=dtype)


@implements(np.vstack)
def vstack(tup: Sequence[Any], *, dtype: Any = None, casting: Any = "same_kind") -> Any:
    """NumPy's vstack."""
    return concatenate([atleast_2d(x) for x in _items(tup)], 0, dtype=dtype)


@implements(np.hstack)
def hstack(tup: Sequence[Any], *, dtype: Any = None, casting: Any = "same_kind") -> Any:
    """NumPy's hstack."""
    parts = [atleast_1d(x) for x in _items(tup)]
    return concatenate(parts, 0 if parts and parts[0].ndim == 1 else 1, dtype=dtype)


@implements(np.dstack)
def dstack(tup: Sequence[Any]) -> Any:
    """NumPy's dstack."""
    return concatenate([atleast_3d(x) for x in _items(tup)], 2)


@implements(np.column_stack)
def column_stack(tup: Sequence[Any]) -> Any:
    """NumPy's column_stack."""
    columns = [x if x.ndim > 1 else np.reshape(x, (x.size, 1)) for x in _items(tup)]
    return concatenate(columns, 1)


@implements(np.block)
def block(arrays: Any) -> Any:
    """NumPy's block: the innermost lists are joined along the last axis, those around them along the one before."""
    depth = _depth(arrays)
    rank = max(depth, *_ranks(arrays), 1) if depth else 0
    return _block(arrays, depth, rank) if depth else np.copy(as_array(arrays))


def _depth(arrays: Any) -> int:
    if isinstance(arrays, tuple):
        raise TypeError(
            "arrays is a tuple. Only lists can be used to arrange blocks, and np.block does not allow implicit "
            "conversion from tuple to ndarray."
        )
    if not isinstance(arrays, list):
        return 0
    if not arrays:
        raise ValueError("List at arrays cannot be empty")
    depths = {_depth(a) for a in arrays}
    if len(depths) > 1:
        raise ValueError("List depths are mismatched")
    return 1 + depths.pop()


def _ranks(arrays: Any) -> list[int]:
    return [r for a in arrays for r in _ranks(a)] if isinstance(arrays, list) else [as_array(arrays).ndim]


def _block(arrays: Any, depth: int, rank: int) -> Any:
    if not isinstance(arrays, list):
        a = as_array(arrays)
        return np.reshape(a, (1,) * (rank - a.ndim) + a.shape)
    return concatenate([_block(a, depth - 1, rank) for a in arrays], -depth)


@implements(np.append)
def append(arr: Any, values: Any, axis: Any = None) -> Any:
    """NumPy's append."""
    return concatenate([as_array(arr), as_array(values)], axis)


class _Joiner:
    """np.r_ or np.c_: what is in brackets is joined along an axis."""

    def __init__(self, original: Any, axis: int, *, columns: bool) -> None:
        self.original = original
        self.axis = axis
        self.columns = columns

    def __getitem__(self, key: Any) -> Any:
        if not contains_tracer(key):
            return self.original[key]
        keys = key if isinstance(key, tuple) else (key,)
        parts = [self._part(p) for p in keys]
        kind = result_dtype(
            [p if isinstance(p, int | float | complex) else a for p, a in zip(keys, parts, strict=True)]
        )
        return concatenate([in_dtype(a, kind) for a in parts], self.axis)

    def _part(self, p: Any) -> Any:
        if isinstance(p, str):
            raise MissingRule("np.r_ and np.c_ with a string of directions", "Use np.concatenate or np.stack.")
        a = as_array(self.original[p] if isinstance(p, slice) else p)
        if not self.columns:
            return atleast_1d(a)
        return np.reshape(a, (a.size, 1)) if a.ndim < 2 else a

    def __len__(self) -> int:
        return 0


r_ = _Joiner(np.r_, 0, columns=False)
c_ = _Joiner(np.c_, -1, columns=True)
intercepts(np, "r_")(cast(Any, r_))
intercepts(np, "c_")(cast(Any, c_))


# ---- splitting


def _array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    a = as_array(ary)
    at = axis_index(axis, a.ndim)
    n = a.shape[at]
    if np.ndim(indices_or_sections) == 0:
        sections = int(indices_or_sections)
        if sections <= 0:
            raise ValueError("number sections must be larger than 0.")
        each, extra = divmod(n, sections)
        points = np.cumsum([0] + extra * [each + 1] + (sections - extra) * [each]).tolist()
    else:
        points = [0, *(int(i) for i in indices_or_sections), n]
    return [part(a, at, i, j) for i, j in itertools.pairwise(points)]


array_split = implements(np.array_split)(_array_split)


def _split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    a = as_array(ary)
    if np.ndim(indices_or_sections) == 0 and a.shape[axis_index(axis, a.ndim)] % indices_or_sections:
        raise ValueError("array split does not result in an equal division")
    return _array_split(a, indices_or_sections, axis)


split = implements(np.split)(_split)


@implements(np.hsplit)
def hsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """NumPy's hsplit."""
    a = as_array(ary)
    if a.ndim == 0:
        raise ValueError("hsplit only works on arrays of 1 or more dimensions")
    return _split(a, indices_or_sections, 1 if a.ndim > 1 else 0)


@implements(np.vsplit)
def vsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """NumPy's vsplit."""
    a = as_array(ary)
    if a.ndim < 2:
        raise ValueError("vsplit only works on arrays of 2 or more dimensions")
    return _split(a, indices_or_sections, 0)


@implements(np.dsplit)
def dsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """NumPy's dsplit."""
    a = as_array(ary)
    if a.ndim < 3:
        raise ValueError("dsplit only works on arrays of 3 or more dimensions")
    return _split(a, indices_or_sections, 2)


@implements(np.unstack)
def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    """NumPy's unstack."""
    x = as_array(x)
    if x.ndim == 0:
        raise ValueError("Input array must be at least 1-d.")
    moved_first = moveaxis(x, axis, 0)
    return tuple(moved_first[i] for i in range(moved_first.shape[0]))


# ---- repeating


@implements(np.tile)
def tile(A: Any, reps: Any) -> Any:
    """NumPy's tile."""
    a = as_array(A)
    counts = tuple(int(r) for r in reps) if isinstance(reps, tuple | list | np.ndarray) else (int(reps),)
    rank = max(len(counts), a.ndim)
    counts = (1,) * (rank - len(counts)) + counts
    shape = (1,) * (rank - a.ndim) + a.shape
    if all(r == 1 for r in counts):
        return np.copy(np.reshape(a, shape))
    spread = ops.reshape(a, shape=tuple(m for n in shape for m in (1, n)))
    spread = ops.broadcast_to(spread, shape=tuple(m for r, n in zip(counts, shape, strict=True) for m in (r, n)))
    return ops.reshape(spread, shape=tuple(r * n for r, n in zip(counts, shape, strict=True)))


@implements(np.repeat, method="repeat")
def repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    """NumPy's repeat."""
    a, at = sole_axis(a, axis)
    repeats = np.asarray(repeats)
    return moved_along(a, at, lambda numbers: np.repeat(numbers, repeats))


@implements(np.resize)
def resize(a: Any, new_shape: Any) -> Any:
    """NumPy's resize: as many copies of a as fill the shape."""
    a = as_array(a)
    if a.size == 0:
        return np.resize(np.empty(a.shape, a.dtype), new_shape)
    return moved(a, lambda numbers: np.resize(numbers, new_shape))


# ---- deleting and inserting


@implements(np.delete)
def delete(arr: Any, obj: Any, axis: Any = None) -> Any:
    """NumPy's delete."""
    a, at = sole_axis(arr, axis)
    _refuse_traced(obj, "delete")
    return moved_along(a, at, lambda numbers: np.delete(numbers, obj))


@implements(np.insert)
def insert(arr: Any, obj: Any, values: Any, axis: Any = None) -> Any:
    """NumPy's insert: the places are asked of NumPy, with numbers in the place of values."""
    a, at = sole_axis(arr, axis)
    _refuse_traced(obj, "insert")
    values = as_array(values)
    values = values if values.dtype == a.dtype else values.astype(a.dtype)
    n = a.shape[at]
    where = np.asarray(obj) if not isinstance(obj, slice) else np.arange(n)[obj]
    if where.dtype.kind == "b":
        where = np.flatnonzero(where)
    if where.ndim == 0 and values.ndim:
        # One place takes the values as they are, laid along the axis.
        values = np.reshape(values, (1,) * (a.ndim - values.ndim) + values.shape)
        values = moveaxis(values, 0, at)
        count = values.shape[at]
        where = np.full(count, where)
    count = where.size
    values = np.broadcast_to(values, (*a.shape[:at], count, *a.shape[at + 1 :]))
    order = np.insert(np.arange(n), where.reshape(-1), np.arange(n, n + count))
    return take(ops.concatenate(a, values, axis=at), order, at)


def _refuse_traced(obj: Any, name: str) -> None:
    if is_tracer(obj):
        raise TraceError(f"np.{name} at a traced place", "Pass the place as a plain integer: int(cr.value(i)).")


# ---- reversing and rolling


def _reversed(a: Any, axes: Sequence[int]) -> Any:
    return ops.slice(a, key=tuple(slice(None, None, -1) if i in axes else slice(None) for i in range(a.ndim)))


@implements(np.flip)
def flip(m: Any, axis: Any = None) -> Any:
    """NumPy's flip."""
    a = as_array(m)
    axes = range(a.ndim) if axis is None else [axis_index(i, a.ndim) for i in _as_list(axis)]
    return _reversed(a, list(axes))


@implements(np.flipud)
def flipud(m: Any) -> Any:
    """NumPy's flipud."""
    if np.ndim(m) < 1:
        raise ValueError("Input must be >= 1-d.")
    return flip(m, 0)


@implements(np.fliplr)
def fliplr(m: Any) -> Any:
    """NumPy's fliplr."""
    if np.ndim(m) < 2:
        raise ValueError("Input must be >= 2-d.")
    return flip(m, 1)


@implements(np.rot90)
def rot90(m: Any, k: int = 1, axes: Any = (0, 1)) -> Any:
    """NumPy's rot90."""
    a = as_array(m)
    if len(axes) != 2:
        raise ValueError("len(axes) must be 2.")
    i, j = (axis_index(x, a.ndim) for x in axes)
    if i == j:
        raise ValueError("Axes must be different.")
    turns = k % 4
    if turns == 0:
        return a[...]
    if turns == 2:
        return flip(a, (i, j))
    return np.swapaxes(flip(a, j), i, j) if turns == 1 else flip(np.swapaxes(a, i, j), j)


@implements(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    """NumPy's roll."""
    a = as_array(a)
    if axis is None:
        return np.reshape(_roll_one(ravel(a), int(np.sum(shift)), 0), a.shape)
    shifts, axes = np.broadcast_arrays(shift, axis)
    for by, at in zip(shifts.ravel(), axes.ravel(), strict=True):
        a = _roll_one(a, int(by), axis_index(int(at), a.ndim))
    return a


def _roll_one(a: Any, by: int, axis: int) -> Any:
    n = a.shape[axis]
    by = by % n if n else 0
    if by == 0:
        return np.copy(a)
    return ops.concatenate(part(a, axis, n - by, None), part(a, axis, None, n - by), axis=axis)

"""Indexing and taking elements: basic keys give views, integer and boolean arrays gather.

A boolean array selects as many elements as it has True, which is decided now: a program remembers it, and a batch refuses it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.errors import TraceError
from chainrule.ir.primitive import concrete, is_tracer, ops
from chainrule.ir.types import ArrayType
from chainrule.linear.maps import Slot
from chainrule.numpy.arguments import as_array, axis_index, decide, sole_axis
from chainrule.trace.numpy_protocols import define_getitem, implements

_BASIC = (int, slice, type(None), type(Ellipsis))
_INVALID = "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or boolean arrays are valid indices"


@define_getitem
def getitem(x: Any, key: Any) -> Any:
    """NumPy's indexing of a tracer."""
    parts = key if type(key) is tuple else (key,)
    for p in parts:
        if not isinstance(p, _BASIC) or isinstance(p, bool) or (type(p) is slice and _has_tracer(p)):
            return _general(x, parts)
    return ops.slice(x, key=parts)


def _has_tracer(p: slice) -> bool:
    return is_tracer(p.start) or is_tracer(p.stop) or is_tracer(p.step)


def _general(x: Any, parts: tuple[Any, ...]) -> Any:
    """Indexing by any parts: what stands for integers becomes integers, then what is left is a slice or a gather."""
    resolved = [_resolved(p) for p in parts]
    x, key = _walked(x, _explicit(resolved, x.ndim))
    indices = [p for p in key if _is_index_array(p)]
    if not indices:
        return ops.slice(x, key=tuple(key))
    slots = iter(range(len(indices)))
    return ops.gather(x, *indices, key=tuple(Slot(next(slots)) if _is_index_array(p) else p for p in key))


def _is_index_array(p: Any) -> bool:
    return is_tracer(p) or isinstance(p, np.ndarray)


def _resolved(p: Any) -> Any:
    """One part of a key as an integer, a slice, None, Ellipsis, a bool, an integer array or tracer, or a plain boolean array."""
    if p is None or p is Ellipsis:
        return p
    if isinstance(p, slice):
        return slice(*(None if v is None else operator.index(v) for v in (p.start, p.stop, p.step)))
    if isinstance(p, list | tuple):
        p = as_array(p)
    if is_tracer(p):
        if p.dtype.kind not in "iub":
            raise TraceError(
                f"a traced {ArrayType.of(p)} is used as an index", "Index with integers: cr.value(i).astype(int)."
            )
        return _plain(np.asarray(decide(p))) if p.dtype.kind == "b" else p
    return _plain(np.asarray(p))


def _plain(array: Any) -> Any:
    if array.dtype.kind == "b":
        return array if array.ndim else bool(array)
    if array.dtype.kind not in "iu":
        if array.size:
            raise IndexError(_INVALID)
        array = array.astype(np.intp)
    return int(array) if array.ndim == 0 else array


def _consumed(p: Any) -> int:
    """How many axes of the indexed array a part takes."""
    if p is None or p is Ellipsis or isinstance(p, bool):
        return 0
    return p.ndim if isinstance(p, np.ndarray) and p.dtype.kind == "b" else 1


def _explicit(key: Sequence[Any], ndim: int) -> list[Any]:
    """The key with its Ellipsis written out as slices, or slices added at its end."""
    dots = [i for i, p in enumerate(key) if p is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    used = sum(map(_consumed, key))
    if used > ndim:
        raise IndexError(f"too many indices for array: array is {ndim}-dimensional, but {used} were indexed")
    rest = [slice(None)] * (ndim - used)
    if not dots:
        return [*key, *rest]
    return [*key[: dots[0]], *rest, *key[dots[0] + 1 :]]


def _walked(x: Any, key: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The array and the key without booleans: a mask is the places where it holds, a lone bool chooses of a new axis of one."""
    out: list[Any] = []
    shape: list[int] = []
    axis = 0
    for p in key:
        extents = x.shape[axis : axis + _consumed(p)]
        if isinstance(p, bool):
            shape.append(1)
            out.append(np.zeros(int(p), np.intp))
        elif isinstance(p, np.ndarray) and p.dtype.kind == "b":
            _check_mask(p.shape, extents, axis)
            out.extend(p.nonzero())
        else:
            out.append(p)
        shape.extend(extents)
        axis += len(extents)
    return (x if len(shape) == x.ndim else ops.reshape(x, shape=tuple(shape))), out


def _check_mask(mask: tuple[int, ...], extents: tuple[int, ...], axis: int) -> None:
    for i, (m, n) in enumerate(zip(mask, extents, strict=True)):
        if m != n:
            raise IndexError(
                f"boolean index did not match indexed array along axis {axis + i}; "
                f"size of axis is {n} but size of corresponding boolean axis is {m}"
            )


# ---- taking along axes


@implements(np.take, method="take")
def take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    """NumPy's take."""
    a, at = sole_axis(a, axis)
    indices = as_array(indices)
    if indices.dtype.kind == "b":  # numbers 0 and 1 here, and no mask
        indices = ops.convert(indices, dtype=np.dtype(np.intp))
    if mode == "wrap":
        indices = ops.remainder(indices, a.shape[at])
    elif mode == "clip":
        indices = ops.minimum(ops.maximum(indices, 0), a.shape[at] - 1)
    lead = (slice(None),) * at
    if not is_tracer(indices):
        plain = _plain(indices)
        if isinstance(plain, int):
            return ops.slice(a, key=(*lead, plain))
        indices = plain
    return ops.gather(a, indices, key=(*lead, Slot(0)))


@implements(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    """NumPy's take_along_axis."""
    a, at = sole_axis(arr, axis)
    indices = as_array(indices)
    if indices.ndim != a.ndim:
        raise ValueError("`indices` and `arr` must have the same number of dimensions")
    if a.ndim == 1:
        return ops.gather(a, indices, key=(Slot(0),))
    grid = [np.arange(n).reshape((-1,) + (1,) * (a.ndim - 1 - i)) for i, n in enumerate(a.shape)]
    arrays = [indices if i == at else grid[i] for i in range(a.ndim)]
    return ops.gather(a, *arrays, key=tuple(Slot(i) for i in range(a.ndim)))


@implements(np.compress)
def compress(condition: Any, a: Any, axis: Any = None, out: Any = None) -> Any:
    """NumPy's compress."""
    chosen = np.asarray(decide(as_array(condition)))
    if chosen.ndim != 1:
        raise ValueError("condition must be a 1-d array")
    return take(a, np.flatnonzero(chosen), axis)


@implements(np.extract)
def extract(condition: Any, arr: Any) -> Any:
    """NumPy's extract."""
    chosen = np.asarray(decide(ops.not_equal(as_array(condition), 0)))
    return take(np.ravel(arr), np.flatnonzero(chosen))


# ---- moving elements, by where NumPy moves their numbers


def moved(a: Any, move: Any) -> Any:
    """What a function that only moves, repeats and drops elements makes of a: it is asked what it does to their numbers."""
    numbers = np.asarray(move(np.arange(a.size).reshape(a.shape)))
    return ops.gather(ops.reshape(a, shape=(a.size,)), numbers, key=(Slot(0),))


def moved_along(a: Any, axis: int, move: Any) -> Any:
    """The same along one axis."""
    return take(a, np.asarray(move(np.arange(a.shape[axis]))), axis)


# ---- diagonals


def _stride(shape: tuple[int, ...], offset: int) -> slice:
    """Where the diagonal lies in a flattened matrix."""
    rows, columns = shape
    length = max(min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns), 0)
    start = offset if offset >= 0 else -offset * columns
    return slice(start, start + (length - 1) * (columns + 1) + 1, columns + 1) if length else slice(0, 0)


@implements(np.diagonal, method="diagonal")
def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """NumPy's diagonal: along a last axis, a strided view of the flattened matrix."""
    a = as_array(a)
    if a.ndim < 2:
        raise ValueError("diag requires an array of at least two dimensions")
    first, second = axis_index(axis1, a.ndim), axis_index(axis2, a.ndim)
    if first == second:
        raise ValueError("axis1 and axis2 cannot be the same")
    rest = [i for i in range(a.ndim) if i not in (first, second)]
    a = np.transpose(a, (*rest, first, second))
    shape = a.shape[-2:]
    flat = ops.reshape(a, shape=(*a.shape[:-2], math.prod(shape)))
    return ops.slice(flat, key=(Ellipsis, _stride(shape, operator.index(offset))))


@implements(np.trace, method="trace")
def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    """NumPy's trace."""
    return np.sum(diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype)


@implements(np.diag)
def diag(v: Any, k: int = 0) -> Any:
    """NumPy's diag: a matrix with v on a diagonal, or the diagonal of a matrix."""
    v = as_array(v)
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise ValueError("Input must be 1- or 2-d.")
    n = v.shape[0] + abs(k)
    flat = ops.place(v, key=(_stride((n, n), k),), shape=(n * n,))
    return ops.reshape(flat, shape=(n, n))


@implements(np.diagflat)
def diagflat(v: Any, k: int = 0) -> Any:
    """NumPy's diagflat."""
    return diag(np.ravel(v), k)


def _kept(m: Any, mask: Any) -> Any:
    m = as_array(m)
    return ops.where(mask(*(m.shape[-2:] if m.ndim > 1 else m.shape * 2)), m, np.zeros((), m.dtype)[()])


@implements(np.tril)
def tril(m: Any, k: int = 0) -> Any:
    """NumPy's tril."""
    return _kept(m, lambda rows, columns: np.tri(rows, columns, k=k, dtype=bool))


@implements(np.triu)
def triu(m: Any, k: int = 0) -> Any:
    """NumPy's triu."""
    return _kept(m, lambda rows, columns: ~np.tri(rows, columns, k=k - 1, dtype=bool))


def plain_shape(x: Any) -> Any:
    """A plain array of the shape and dtype of x, for functions that only look at these."""
    return np.broadcast_to(np.zeros((), x.dtype), x.shape) if is_tracer(x) else concrete(x)


for _function in (np.tril_indices_from, np.triu_indices_from, np.diag_indices_from):

    def _from_shape(arr: Any, *args: Any, _function: Any = _function, **options: Any) -> Any:
        return _function(plain_shape(arr), *args, **options)

    implements(_function)(_from_shape)

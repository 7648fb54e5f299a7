"""Shapes and axes: reshape, transpose, broadcast and their kin. They only move elements, as views do."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from chainrule.ir.primitive import ops
from chainrule.numpy.arguments import as_array, axis_index, axis_tuple
from chainrule.trace.numpy_protocols import METHODS, PROPERTIES, implements


def _resolved(size: int, shape: Any) -> tuple[int, ...]:
    """The shape with its -1 resolved, checked against the number of elements."""
    asked = tuple(map(operator.index, shape if isinstance(shape, tuple | list) else (shape,)))
    wanted = asked
    if -1 in asked:
        if asked.count(-1) > 1:
            raise ValueError("can only specify one unknown dimension")
        rest = math.prod(n for n in asked if n != -1)
        if rest and size % rest == 0:
            wanted = tuple(size // rest if n == -1 else n for n in asked)
    if math.prod(wanted) != size or min(wanted, default=0) < 0:
        raise ValueError(f"cannot reshape array of size {size} into shape {asked}")
    return wanted


@implements(np.reshape)
def reshape(a: Any, /, shape: Any = None, order: str = "C", *, newshape: Any = None, copy: Any = None) -> Any:
    """NumPy's reshape."""
    a = as_array(a)
    to = _resolved(a.size, newshape if shape is None else shape)
    if order == "F" and a.ndim + len(to) > 2:
        return transpose(ops.reshape(transpose(a), shape=to[::-1]))
    if to == a.shape:
        return ops.positive(a) if copy else a
    return ops.reshape(a, shape=to)


def _reshape_method(a: Any, *shape: Any, order: str = "C", copy: Any = None) -> Any:
    return reshape(a, shape[0] if len(shape) == 1 else shape, order, copy=copy)


METHODS["reshape"] = _reshape_method


@implements(np.ravel, method="ravel")
def ravel(a: Any, order: str = "C") -> Any:
    """NumPy's ravel."""
    return reshape(a, -1, "F" if order == "F" else "C")


def _flatten(a: Any, order: str = "C") -> Any:
    """A flat copy: where nothing moves, a new handle all the same."""
    flat = ravel(a, order)
    return np.copy(flat) if flat is a else flat


METHODS["flatten"] = _flatten
PROPERTIES["flat"] = ravel


@implements(np.transpose)
def transpose(a: Any, axes: Any = None) -> Any:
    """NumPy's transpose."""
    a = as_array(a)
    if axes is None:
        order = tuple(range(a.ndim))[::-1]
    else:
        if len(axes) != a.ndim:
            raise ValueError("axes don't match array")
        order = tuple(axis_index(operator.index(i), a.ndim) for i in axes)
        if len(set(order)) != a.ndim:
            raise ValueError("repeated axis in transpose")
    return a if order == tuple(range(a.ndim)) else ops.transpose(a, axes=order)


def _transpose_method(a: Any, *axes: Any) -> Any:
    if not axes or axes == (None,):
        return transpose(a)
    return transpose(a, axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes)


METHODS["transpose"] = _transpose_method
PROPERTIES["T"] = transpose


@implements(np.swapaxes, method="swapaxes")
def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    """NumPy's swapaxes."""
    a = as_array(a)
    i, j = axis_index(axis1, a.ndim), axis_index(axis2, a.ndim)
    order = list(range(a.ndim))
    order[i], order[j] = j, i
    return transpose(a, order)


@implements(np.matrix_transpose)
def matrix_transpose(x: Any, /) -> Any:
    """NumPy's matrix_transpose: the last two axes swapped."""
    x = as_array(x)
    if x.ndim < 2:
        raise ValueError(f"Input array must be at least 2-dimensional, but it is {x.ndim}")
    return swapaxes(x, -1, -2)


PROPERTIES["mT"] = matrix_transpose


@implements(np.moveaxis)
def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    """NumPy's moveaxis."""
    a = as_array(a)
    sources, targets = (
        [axis_index(i, a.ndim) for i in ([axes] if np.ndim(axes) == 0 else axes)] for axes in (source, destination)
    )
    if len(sources) != len(targets):
        raise ValueError("`source` and `destination` arguments must have the same number of elements")
    order = [i for i in range(a.ndim) if i not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        order.insert(target, origin)
    return transpose(a, order)


@implements(np.rollaxis)
def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    """NumPy's rollaxis."""
    a = as_array(a)
    axis = axis_index(axis, a.ndim)
    start = start + a.ndim if start < 0 else start
    if not 0 <= start <= a.ndim:
        raise np.exceptions.AxisError(
            f"'start' arg requires {-a.ndim} <= start < {a.ndim + 1}, but {start} was passed in"
        )
    return moveaxis(a, axis, start - (axis < start))


# ---- broadcasting


@implements(np.broadcast_to)
def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    """NumPy's broadcast_to."""
    array = as_array(array)
    to = tuple(operator.index(n) for n in shape) if isinstance(shape, tuple | list) else (operator.index(shape),)
    if len(to) < array.ndim or np.broadcast_shapes(array.shape, to) != to:
        raise ValueError(
            "operands could not be broadcast together with remapped shapes [original->remapped]: "
            f"{array.shape} and requested shape {to}"
        )
    return array if array.shape == to else ops.broadcast_to(array, shape=to)


@implements(np.broadcast_arrays)
def broadcast_arrays(*args: Any, subok: bool = False) -> tuple[Any, ...]:
    """NumPy's broadcast_arrays."""
    arrays = [as_array(a) for a in args]
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    return tuple(broadcast_to(a, shape) for a in arrays)


@implements(np.meshgrid)
def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple[Any, ...]:
    """NumPy's meshgrid."""
    if indexing not in ("xy", "ij"):
        raise ValueError("Valid values for `indexing` are 'xy' and 'ij'.")
    n = len(xi)
    place = list(range(n))
    if indexing == "xy" and n > 1:
        place[:2] = [1, 0]
    vectors = [as_array(x) for x in xi]
    out = tuple(reshape(x, (1,) * k + (x.size,) + (1,) * (n - 1 - k)) for x, k in zip(vectors, place, strict=True))
    return out if sparse else broadcast_arrays(*out)


@implements(np.ix_)
def ix_(*args: Any) -> tuple[Any, ...]:
    """NumPy's ix_: vectors laid along axes of their own."""
    out = []
    for k, x in enumerate(as_array(arg) for arg in args):
        if x.ndim != 1:
            raise ValueError("Cross index must be 1 dimensional")
        index = np.flatnonzero(x) if x.dtype.kind == "b" else x
        out.append(reshape(index, (1,) * k + (index.size,) + (1,) * (len(args) - 1 - k)))
    return tuple(out)


# ---- axes of extent one


@implements(np.expand_dims)
def expand_dims(a: Any, axis: Any) -> Any:
    """NumPy's expand_dims."""
    a = as_array(a)
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    rank = a.ndim + len(axes)
    new = set(axis_tuple(tuple(axes), rank))
    old = iter(a.shape)
    return ops.reshape(a, shape=tuple(1 if i in new else next(old) for i in range(rank)))


@implements(np.squeeze, method="squeeze")
def squeeze(a: Any, axis: Any = None) -> Any:
    """NumPy's squeeze."""
    a = as_array(a)
    drop = tuple(i for i, n in enumerate(a.shape) if n == 1) if axis is None else axis_tuple(axis, a.ndim)
    if any(a.shape[i] != 1 for i in drop):
        raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return ops.reshape(a, shape=tuple(n for i, n in enumerate(a.shape) if i not in drop)) if drop else a


def _each(raise_one: Any, arrays: tuple[Any, ...]) -> Any:
    raised = tuple(raise_one(as_array(a)) for a in arrays)
    return raised[0] if len(raised) == 1 else raised


@implements(np.atleast_1d)
def atleast_1d(*arys: Any) -> Any:
    """NumPy's atleast_1d."""
    return _each(lambda a: a if a.ndim else reshape(a, (1,)), arys)


@implements(np.atleast_2d)
def atleast_2d(*arys: Any) -> Any:
    """NumPy's atleast_2d."""
    return _each(lambda a: a if a.ndim > 1 else reshape(a, (1, a.size)), arys)


def _to_3d(a: Any) -> Any:
    if a.ndim > 2:
        return a
    return reshape(a, (*a.shape, 1) if a.ndim == 2 else (1, a.size, 1))


@implements(np.atleast_3d)
def atleast_3d(*arys: Any) -> Any:
    """NumPy's atleast_3d."""
    return _each(_to_3d, arys)

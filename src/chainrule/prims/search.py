"""What is found by comparing: argmax, argsort, searchsorted and kin, whose integers and booleans carry no derivative."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from chainrule.ir.primitive import Params, RoomPrimitive, Sample, ops
from chainrule.ir.types import Array, ArrayType
from chainrule.prims.reduce import along, count_elements, reduced, shift_axes
from chainrule.prims.shape import draw

INDEX = np.dtype(np.intp)


def _along(name: str, compute: Callable[..., Any], types: Callable[..., ArrayType], **options: Any) -> RoomPrimitive:
    """A search along one axis, with what further options it takes."""

    def samples() -> Iterator[Sample]:
        yield (draw(5),), {"axis": 0, **options}
        yield (draw(2, 3),), {"axis": 1, **options}

    primitive: RoomPrimitive = RoomPrimitive(
        name=name,
        compute=compute,
        types=types,
        typed=True,
        partials=(0,),
        batching=lambda size, args, batched, params: primitive(args[0], **{**params, "axis": params["axis"] + 1}),
        cost=count_elements,
        examples=samples,
    )
    return primitive


def _dropped(x: ArrayType, axis: int) -> ArrayType:
    if x.size == 0:
        raise ValueError(f"no extreme of {x}")
    return ArrayType(reduced(x, (axis,)), INDEX)


argmax = _along("argmax", lambda x, axis: np.argmax(x, axis=axis), _dropped)
argmin = _along("argmin", lambda x, axis: np.argmin(x, axis=axis), _dropped)
argsort = _along(
    "argsort",
    lambda x, axis, kind: np.argsort(x, axis=axis, kind=kind),
    lambda x, axis, kind: ArrayType(along(x, axis), INDEX),
    kind="stable",
)


def _partitioned(x: ArrayType, axis: int, kth: Sequence[int]) -> ArrayType:
    n = along(x, axis)[axis]
    if not all(-n <= k < n for k in kth):
        raise ValueError(f"no elements {kth} of {n}")
    return ArrayType(x.shape, INDEX)


argpartition = _along(
    "argpartition",
    lambda x, axis, kth: np.argpartition(x, kth, axis=axis),
    _partitioned,
    kth=(1,),
)


def _running(best: Any) -> Callable[..., Any]:
    """Where the running extreme along an axis was first attained."""

    def compute(x: Any, *, axis: int) -> Any:
        attained = best.accumulate(x, axis=axis)
        n = np.arange(x.shape[axis]).reshape((-1,) + (1,) * (x.ndim - axis - 1))
        fresh = np.ones(x.shape, bool)
        later = (slice(None),) * axis + (slice(1, None),)
        earlier = (slice(None),) * axis + (slice(None, -1),)
        # Not equal, and not NaN already: NaN is an extreme that stays.
        fresh[later] = (attained[later] != attained[earlier]) & (attained[earlier] == attained[earlier])
        return np.maximum.accumulate(np.where(fresh, n, 0), axis=axis)

    return compute


def _running_types(x: ArrayType, axis: int) -> ArrayType:
    return ArrayType(along(x, axis), INDEX)


running_argmax = _along("running_argmax", _running(np.maximum), _running_types)
running_argmin = _along("running_argmin", _running(np.minimum), _running_types)


def _over_axes(name: str, compute: Callable[..., Any], dtype: np.dtype[Any]) -> RoomPrimitive:
    """A search over several axes."""

    def samples() -> Iterator[Sample]:
        yield (draw(2, 3) > 0,), {"axes": (0, 1)}
        yield (draw(2, 3) > 0,), {"axes": (1,)}
        yield (draw(3) > 0,), {"axes": ()}

    primitive: RoomPrimitive = RoomPrimitive(
        name=name,
        compute=compute,
        types=lambda x, axes: ArrayType(reduced(x, axes), dtype),
        typed=True,
        partials=(0,),
        batching=lambda *a: shift_axes(primitive)(*a),
        cost=count_elements,
        examples=samples,
    )
    return primitive


BOOL = np.dtype(bool)
all_of = _over_axes("all_of", lambda x, axes: np.logical_and.reduce(x, axis=axes), BOOL)
any_of = _over_axes("any_of", lambda x, axes: np.logical_or.reduce(x, axis=axes), BOOL)
count_true = _over_axes(
    "count_true", lambda x, axes: np.asarray(np.add.reduce(np.not_equal(x, 0), axis=axes, dtype=INDEX))[()], INDEX
)

# ---- searchsorted[side](a, v)


def _searchsorted_batch(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Array:
    a, v = args
    if not batched[0]:
        return searchsorted(a, v, **params)
    # The place of v is how many of a are below it; NaN counts as the largest.
    shape = v.shape if batched[1] else (1, *np.shape(v))
    v = ops.reshape(v, shape=(*shape, 1))
    a = ops.reshape(a, shape=(size, *(1,) * (len(shape) - 1), a.shape[1]))
    below = ops.less if params["side"] == "left" else ops.less_equal
    counted = ops.logical_or(below(a, v), ops.logical_and(ops.isnan(v), ops.logical_not(ops.isnan(a))))
    if params["side"] == "right":
        counted = ops.logical_or(counted, ops.isnan(v))
    return count_true(counted, axes=(len(shape),))


def _searchsorted_samples() -> Iterator[Sample]:
    for side in ("left", "right"):
        yield (np.array([0.0, 1.0, 1.0, 2.0]), np.array([[-1.0, 1.0], [1.5, 3.0]])), {"side": side}
        yield (np.array([0.0, 1.0]), np.float64(0.5)), {"side": side}


def _searchsorted_types(a: ArrayType, v: ArrayType, side: str) -> ArrayType:
    if len(a.shape) != 1:
        raise ValueError(f"no sorted sequence: {a}")
    np.result_type(a.dtype, v.dtype)
    return ArrayType(v.shape, INDEX)


searchsorted: RoomPrimitive = RoomPrimitive(
    name="searchsorted",
    compute=lambda a, v, side: np.searchsorted(a, v, side=side),
    types=_searchsorted_types,
    typed=True,
    partials=(0, 0),
    batching=_searchsorted_batch,
    cost=lambda args, outs, params: prod(outs[0].shape) * max(args[0].size, 1).bit_length(),
    examples=_searchsorted_samples,
)

"""all_pole[axis, reverse](a, x): the recursive filter y_i = x_i - a_0 y_(i-1) - a_1 y_(i-2) - ..., at rest before the first i.

It is linear in x, its adjoint filters from the other end, and by the coefficients it is itself again:

    dy = all_pole(a, dx - sum_k da_k y_(i-1-k))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from chainrule.ir.primitive import Params, RoomPrimitive, Sample, ops
from chainrule.ir.types import Array, ArrayType
from chainrule.linear import Implicit
from chainrule.prims.cumulative import Running, flipped
from chainrule.prims.shape import draw


def _value(a: Any, x: Any, *, axis: int, reverse: bool) -> Any:
    from scipy.signal import lfilter  # scipy loads at first use

    dtype = np.result_type(a, x)
    if not x.size:
        return np.zeros(x.shape, dtype)
    poles = np.concatenate([np.ones(1, a.dtype), a])
    if reverse:
        return np.ascontiguousarray(flipped(lfilter([1.0], poles, flipped(x, axis), axis), axis), dtype)
    return np.asarray(lfilter([1.0], poles, x, axis), dtype)


def delayed(x: Array, axis: int, by: int, *, reverse: bool = False) -> Array:
    """x moved on along an axis by some places (back, in reverse), with zeros in the gap."""
    n = x.shape[axis]
    kept = max(n - by, 0)
    ends = slice(0, kept), slice(n - kept, n)
    source, target = ends[::-1] if reverse else ends
    whole = (slice(None),) * axis
    return ops.place(ops.slice(x, key=(*whole, source)), key=(*whole, target), shape=x.shape)


def _partial_by_input(a: Array, x: Array, *, out: Array, axis: int, reverse: bool) -> Running:
    return Running(
        lambda t: all_pole(a, t, axis=axis, reverse=reverse),
        lambda ct: all_pole(a, ct, axis=axis, reverse=not reverse),
        x,
        out,
        axis=axis,
        reverse=reverse,
        cost=a.size * x.size,
    )


def _partial_by_coefficients(a: Array, x: Array, *, out: Array, axis: int, reverse: bool) -> Implicit:
    axes = tuple(range(len(x.shape)))
    before = [delayed(out, axis, k + 1, reverse=reverse) for k in range(a.shape[0])]

    def apply(t: Array) -> Array:
        total: Any = np.zeros(x.shape, out.dtype)
        for k, y in enumerate(before):
            total = total - ops.slice(t, key=(k,)) * y
        return all_pole(a, total, axis=axis, reverse=reverse)

    def adjoint(ct: Array) -> Array:
        pulled = all_pole(a, ct, axis=axis, reverse=not reverse)
        sums = [ops.reshape(ops.reduce_sum(-(pulled * y), axes=axes), shape=(1,)) for y in before]
        return ops.concatenate(*sums, axis=0) if sums else np.zeros(0, ct.dtype)

    return Implicit(apply, adjoint, a, out, cost=2 * a.size * x.size)


def _batch(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Array:
    a, x = args
    axis, reverse = params["axis"], params["reverse"]
    if not batched[0]:
        return all_pole(a, x, axis=axis + 1, reverse=reverse)
    rows = [ops.slice(x, key=(i,)) if batched[1] else x for i in range(size)]
    found = [all_pole(ops.slice(a, key=(i,)), rows[i], axis=axis, reverse=reverse) for i in range(size)]
    return ops.concatenate(*(ops.reshape(y, shape=(1, *y.shape)) for y in found), axis=0)


def _samples() -> Iterator[Sample]:
    a = np.array([-0.5, 0.2])
    yield (a, draw(5)), {"axis": 0, "reverse": False}
    yield (a[:1], draw(2, 4)), {"axis": 1, "reverse": True}
    yield (a, draw(3, 2)), {"axis": 0, "reverse": False}
    yield (a, draw(1)), {"axis": 0, "reverse": True}
    yield (a, draw(3) + 1j), {"axis": 0, "reverse": False}


all_pole: RoomPrimitive = RoomPrimitive(
    name="all_pole",
    compute=_value,
    types=lambda a, x, axis, reverse: ArrayType(x.shape, np.result_type(a.dtype, x.dtype)),
    partials=(_partial_by_coefficients, _partial_by_input),
    batching=_batch,
    cost=lambda args, outs, params: 2 * args[0].size * args[1].size,
    examples=_samples,
)

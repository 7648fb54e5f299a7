"""Along one axis: cumsum[axis, reverse], recur[axis, reverse], cumprod[axis] and reduce_prod[axes].

recur solves y_i = a_i y_(i-1) + b_i, with y_(-1) = 0. It is closed under differentiation, and cumulative products come down to it:

    dy = recur(a, db + da * y_(i-1)),        the adjoint of b -> y is recur from the other end with a_(i+1),
    p = cumprod(x):  dp = recur(x, p_(i-1) dx).

No product is ever divided by a factor, so zeros among the factors, however many, are right at every order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.ir.primitive import Params, RoomPrimitive, Sample, ops
from chainrule.ir.types import Array, ArrayType
from chainrule.linear import Implicit, WeightedSum, patterns
from chainrule.prims.reduce import along, count_elements, reduced, reduction_samples, shift_axes
from chainrule.prims.shape import draw

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Axes = tuple[int, ...]


class Running(Implicit):
    """A map of a shape to itself in which an element depends on those before it (or after it) along an axis."""

    __slots__ = ("axis", "reverse")

    def __init__(self, apply: Any, adjoint: Any, x: Array, out: Array, *, axis: int, reverse: bool, cost: int) -> None:
        super().__init__(apply, adjoint, x, out, cost=cost)
        self.axis = axis
        self.reverse = reverse

    def pattern(self) -> csr_array:
        return patterns.along(self.in_shape, self.axis, np.triu if self.reverse else np.tril)


def flipped(x: Any, axis: int) -> Any:
    """A view of a plain array with one axis reversed."""
    return x[(slice(None),) * axis + (slice(None, None, -1),)]


def shifted(x: Array, axis: int, fill: float, *, reverse: bool = False) -> Array:
    """x moved one place on along an axis (back, in reverse), the gap filled with a number."""
    n = x.shape[axis]
    edge = np.full((*x.shape[:axis], min(n, 1), *x.shape[axis + 1 :]), fill, x.dtype)
    kept = slice(1, None) if reverse else slice(0, max(n - 1, 0))
    rest = ops.slice(x, key=(slice(None),) * axis + (kept,))
    return ops.concatenate(rest, edge, axis=axis) if reverse else ops.concatenate(edge, rest, axis=axis)


def _along_samples() -> Iterator[Sample]:
    yield (draw(4),), {"axis": 0}
    yield (draw(2, 1, 3),), {"axis": 2}
    yield (draw(2, 3),), {"axis": 1}
    yield (draw(2, 3, 2),), {"axis": 1}
    yield (draw(0),), {"axis": 0}


# ---- cumsum[axis, reverse](x)


def _cumsum_value(x: Any, *, axis: int, reverse: bool) -> Any:
    return flipped(np.cumsum(flipped(x, axis), axis=axis), axis) if reverse else np.cumsum(x, axis=axis)


def _cumsum_partial(x: Array, out: Array, *, axis: int, reverse: bool) -> Running:
    return Running(
        lambda t: cumsum(t, axis=axis, reverse=reverse),
        lambda ct: cumsum(ct, axis=axis, reverse=not reverse),
        x,
        out,
        axis=axis,
        reverse=reverse,
        cost=0,
    )


def _shift_axis(primitive: Any, args: Sequence[Array], params: Params) -> Array:
    return primitive(*args, **{**params, "axis": params["axis"] + 1})


def _cumsum_samples() -> Iterator[Sample]:
    for args, params in _along_samples():
        yield args, {**params, "reverse": False}
        yield args, {**params, "reverse": True}


cumsum: RoomPrimitive = RoomPrimitive(
    name="cumsum",
    compute=_cumsum_value,
    types=lambda x, axis, reverse: ArrayType(along(x, axis), np.cumsum(np.ones(1, x.dtype)).dtype),
    typed=True,
    partials=(_cumsum_partial,),
    batching=lambda size, args, batched, params: _shift_axis(cumsum, args, params),
    cost=count_elements,
    examples=_cumsum_samples,
)

# ---- recur[axis, reverse](a, b)


def _by_doubling(a: Any, b: Any) -> Any:
    """The recurrence along the first axis in log2(n) steps, each joining spans of twice the length."""
    a, y = a.copy(), b.copy()
    span = 1
    while span < len(y):
        y[span:] += a[span:] * y[:-span]
        a[span:] = a[span:] * a[:-span]
        span *= 2
    return y


def _one_by_one(a: Any, b: Any) -> Any:
    y = b.copy()
    for i in range(1, len(y)):
        y[i] += a[i] * y[i - 1]
    return y


def _recur_value(a: Any, b: Any, *, axis: int, reverse: bool) -> Any:
    dtype = np.result_type(a, b)
    a, b = (np.moveaxis(np.asarray(x, dtype), axis, 0) for x in np.broadcast_arrays(a, b))
    if reverse:
        a, b = a[::-1], b[::-1]
    with np.errstate(all="ignore"):
        # Products over long spans may overflow where the recurrence itself does not.
        y = _by_doubling(a, b)
        y = y if np.isfinite(y).all() else _one_by_one(a, b)
    return np.ascontiguousarray(np.moveaxis(y[::-1] if reverse else y, 0, axis))


def _recur_factor(a: Array, b: Array, out: Array, *, axis: int, reverse: bool) -> Running:
    before = shifted(out, axis, 0.0, reverse=reverse)
    push = _solver(a, axis, reverse)
    pull = _solver(shifted(a, axis, 0.0, reverse=not reverse), axis, not reverse)
    return Running(
        lambda t: push(ops.multiply(t, before)),
        lambda ct: ops.multiply(pull(ct), before),
        a,
        out,
        axis=axis,
        reverse=reverse,
        cost=2 * prod(out.shape),
    )


def _recur_term(a: Array, b: Array, out: Array, *, axis: int, reverse: bool) -> Running:
    pull = _solver(shifted(a, axis, 0.0, reverse=not reverse), axis, not reverse)
    return Running(_solver(a, axis, reverse), pull, b, out, axis=axis, reverse=reverse, cost=prod(out.shape))


def _solver(a: Array, axis: int, reverse: bool) -> Any:
    return lambda b: recur(a, b, axis=axis, reverse=reverse)


def _recur_batch(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Array:
    whole = [a if b else ops.broadcast_to(a, shape=(size, *a.shape)) for a, b in zip(args, batched, strict=True)]
    return _shift_axis(recur, whole, params)


def _recur_samples() -> Iterator[Sample]:
    for reverse in (False, True):
        yield (draw(4), draw(4)[::-1].copy()), {"axis": 0, "reverse": reverse}
        yield (draw(2, 3), draw(2, 3)[::-1].copy()), {"axis": 1, "reverse": reverse}
        yield (draw(0), draw(0)), {"axis": 0, "reverse": reverse}
    yield (np.array([1.0, 0.0, 2.0]), draw(3)), {"axis": 0, "reverse": False}


recur: RoomPrimitive = RoomPrimitive(
    name="recur",
    compute=_recur_value,
    types=lambda a, b, axis, reverse: ArrayType(b.shape, np.result_type(a.dtype, b.dtype)),
    partials=(_recur_factor, _recur_term),
    batching=_recur_batch,
    cost=lambda args, outs, params: 2 * outs[0].size,
    examples=_recur_samples,
)

# ---- cumprod[axis](x)


def _cumprod_partial(x: Array, out: Array, *, axis: int) -> Running:
    before = shifted(out, axis, 1.0)
    later = shifted(x, axis, 0.0, reverse=True)
    return Running(
        lambda t: recur(x, ops.multiply(t, before), axis=axis, reverse=False),
        lambda ct: ops.multiply(recur(later, ct, axis=axis, reverse=True), before),
        x,
        out,
        axis=axis,
        reverse=False,
        cost=2 * prod(x.shape),
    )


def _cumprod_samples() -> Iterator[Sample]:
    yield from _along_samples()
    yield (np.array([2.0, 0.0, 3.0, -1.0]),), {"axis": 0}
    yield (np.array([2.0, 0.0, 3.0, 0.0]),), {"axis": 0}


cumprod: RoomPrimitive = RoomPrimitive(
    name="cumprod",
    compute=lambda x, axis: np.cumprod(x, axis=axis),
    types=lambda x, axis: ArrayType(along(x, axis), np.cumprod(np.ones(1, x.dtype)).dtype),
    typed=True,
    partials=(_cumprod_partial,),
    batching=lambda size, args, batched, params: _shift_axis(cumprod, args, params),
    cost=count_elements,
    examples=_cumprod_samples,
)

# ---- reduce_prod[axes](x)


def _products_of_the_others(x: Array, axes: Axes) -> Array:
    """For each element the product of the others: of those before it times those after it."""
    order = (*(i for i in range(x.ndim) if i not in axes), *axes)
    moved = x if order == tuple(range(x.ndim)) else ops.transpose(x, axes=order)
    kept = moved.shape[: x.ndim - len(axes)]
    flat = ops.reshape(moved, shape=(*kept, prod(moved.shape[len(kept) :])))
    last = len(kept)
    key = (slice(None),) * last + (slice(None, None, -1),)
    before = shifted(cumprod(flat, axis=last), last, 1.0)
    after = ops.slice(shifted(cumprod(ops.slice(flat, key=key), axis=last), last, 1.0), key=key)
    others = ops.reshape(ops.multiply(before, after), shape=moved.shape)
    return others if moved is x else ops.transpose(others, axes=tuple(int(i) for i in np.argsort(order)))


def _prod_partial(x: Array, out: Array, *, axes: Axes) -> WeightedSum:
    return WeightedSum(_products_of_the_others(x, axes), axes, x, out)


def _prod_samples() -> Iterator[Sample]:
    yield from reduction_samples()
    yield (np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 1.5]]),), {"axes": (1,)}
    yield (draw(0, 2),), {"axes": (0,)}


reduce_prod: RoomPrimitive = RoomPrimitive(
    name="reduce_prod",
    compute=lambda x, axes: np.multiply.reduce(x, axis=axes),
    types=lambda x, axes: ArrayType(reduced(x, axes), np.multiply.reduce(np.ones(1, x.dtype)).dtype),
    typed=True,
    partials=(_prod_partial,),
    batching=lambda *a: shift_axes(reduce_prod)(*a),
    cost=count_elements,
    examples=_prod_samples,
)

"""Reductions over axes: sums, and the extremes, whose ties share their cotangent evenly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from chainrule.ir.primitive import Params, RoomPrimitive, Sample, ops
from chainrule.ir.types import Array, ArrayType
from chainrule.linear import SumOver, WeightedSum
from chainrule.prims.shape import draw

Axes = tuple[int, ...]


def reduced(x: ArrayType, axes: Axes) -> tuple[int, ...]:
    """The shape of x without the reduced axes."""
    if any(not 0 <= a < len(x.shape) for a in axes):
        raise np.exceptions.AxisError(f"axes {axes} of {x}")
    return tuple([n for i, n in enumerate(x.shape) if i not in axes])


def along(x: ArrayType, axis: int) -> tuple[int, ...]:
    """The shape of x, which has that axis."""
    reduced(x, (axis,))
    return x.shape


def count_elements(args: Sequence[ArrayType], _outs: Sequence[ArrayType], _params: Params) -> int:
    """One operation an element of the first argument."""
    return args[0].size


def shift_axes(primitive: Callable[..., Any]) -> Callable[..., Any]:
    """Batching for operations of one argument with `axes`: all axes move one place to the right."""

    def rule(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Any:
        return primitive(args[0], axes=tuple(a + 1 for a in params["axes"]))

    return rule


def reduction_samples() -> Iterator[Sample]:
    """Arrays without ties, reduced over one, several and all axes."""
    rng = np.random.default_rng(3)
    yield (rng.permutation(6.0 + np.arange(6)).reshape(2, 3) / 7,), {"axes": (0, 1)}
    yield (rng.permutation(6.0 + np.arange(6)).reshape(2, 3) / 7,), {"axes": (1,)}
    yield (rng.permutation(1.0 + np.arange(24)).reshape(2, 3, 4) / 9,), {"axes": (0, 2)}
    yield (draw(3),), {"axes": ()}


def _sum_samples() -> Iterator[Sample]:
    yield from reduction_samples()
    yield (draw(0, 2),), {"axes": (0,)}


# ndarray.sum would let NumPy widen small integers only; np.add.reduce is the same sum with less overhead.
_add_up = np.add.reduce
# NumPy calls its inner loop for every row, which takes longer than adding up a row of so few elements; it adds them one after
# the other, while longer rows are added up in parts.
_FEW = 7
_MANY_ROWS = 200


def _sum(x: Any, axes: Axes) -> Any:
    if len(axes) == 1 and _has_many_short_rows(x, axes[0]):
        out = x[..., 0] + 0.0  # as in NumPy, whose sum of negative zeros is zero
        for k in range(1, x.shape[-1]):
            out += x[..., k]
        return out
    return _add_up(x, axes)


def _has_many_short_rows(x: Any, axis: int) -> bool:
    n = x.shape[axis]
    return (
        1 < n <= _FEW
        and axis == x.ndim - 1 > 0
        and x.size >= _MANY_ROWS * n
        and x.dtype.char in "fd"
        and x.flags.c_contiguous
    )


reduce_sum: RoomPrimitive = RoomPrimitive(
    name="reduce_sum",
    compute=_sum,
    types=lambda x, axes: ArrayType(reduced(x, axes), np.add.reduce(np.ones(1, x.dtype)).dtype),
    typed=True,
    partials=(lambda x, out, axes: SumOver(axes, x, out),),
    batching=lambda *a: shift_axes(reduce_sum)(*a),
    cost=count_elements,
    examples=_sum_samples,
)


def _extreme_partial(x: Array, out: Array, *, axes: Axes) -> WeightedSum:
    kept = ops.reshape(out, shape=tuple(1 if i in axes else n for i, n in enumerate(x.shape)))
    hits = ops.where(ops.equal(x, kept), 1.0, 0.0)
    ties = ops.reshape(ops.reduce_sum(hits, axes=axes), shape=kept.shape)
    return WeightedSum(ops.convert(hits / ties, dtype=x.dtype), axes, x, out)


def _extreme_types(x: ArrayType, *, axes: Axes) -> ArrayType:
    if x.size == 0:
        raise ValueError(f"no extreme of {x}")  # of some there is, as far as NumPy is concerned, which then is asked
    return ArrayType(reduced(x, axes), x.dtype)


def _extreme(name: str, compute: Callable[..., Any]) -> RoomPrimitive:
    primitive: RoomPrimitive = RoomPrimitive(
        name=name,
        compute=compute,
        types=_extreme_types,
        typed=True,
        partials=(_extreme_partial,),
        batching=lambda *a: shift_axes(primitive)(*a),
        cost=count_elements,
        examples=reduction_samples,
    )
    return primitive


reduce_max = _extreme("reduce_max", lambda x, axes: np.maximum.reduce(x, axis=axes))
reduce_min = _extreme("reduce_min", lambda x, axes: np.minimum.reduce(x, axis=axes))

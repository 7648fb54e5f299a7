"""substitute(sums, order, source, sink): the terms of sums, each read off where it is alone, and then subtracted where it is not.

For e in `order`: out[e] = sums[source[e]], and sums[sink[e]] loses it. It is how the entries of a symmetric matrix are found from
sums of them over the trees of an acyclic colouring. `substitute_back` is the adjoint. Both are linear in the first argument and
go along its last axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import Params, RoomPrimitive, Sample
from chainrule.ir.types import Array, ArrayType
from chainrule.linear import Implicit
from chainrule.native import Floats, Ints, Kernel, kernel
from chainrule.prims.indexing import slice_
from chainrule.prims.shape import broadcast_to, concatenate, draw, reshape


@kernel
def _forwards(order: Ints, source: Ints, sink: Ints, edges: int, sums: Floats, out: Floats) -> None:
    for t in range(edges):
        e = order[t]
        out[e] = sums[source[e]]
        sums[sink[e]] = sums[sink[e]] - out[e]


@kernel
def _backwards(order: Ints, source: Ints, sink: Ints, edges: int, sums: Floats, ct: Floats) -> None:
    for s in range(edges):
        e = order[edges - 1 - s]
        sums[source[e]] = sums[source[e]] + ct[e] - sums[sink[e]]


def _run(loop: Kernel[Any, None], sums: Any, terms: Any, indices: Sequence[Any]) -> None:
    """The loop on each of the lines along the last axis, in double precision."""
    plain = [np.ascontiguousarray(i, np.int64) for i in indices]
    for at in np.ndindex(sums.shape[:-1]):
        loop(*plain, len(plain[0]), sums[at], terms[at])


def _value(sums: Any, *indices: Any) -> Any:
    if sums.dtype.kind == "c":
        return (_value(sums.real, *indices) + 1j * _value(sums.imag, *indices)).astype(sums.dtype)
    work, out = np.array(sums, np.float64, order="C"), np.zeros((*sums.shape[:-1], len(indices[0])))
    _run(_forwards, work, out, indices)
    return out.astype(sums.dtype, copy=False)


def _back_value(ct: Any, *indices: Any, size: int) -> Any:
    if ct.dtype.kind == "c":
        real, imaginary = (_back_value(part, *indices, size=size) for part in (ct.real, ct.imag))
        return (real + 1j * imaginary).astype(ct.dtype)
    work, out = np.array(ct, np.float64, order="C"), np.zeros((*ct.shape[:-1], size))
    _run(_backwards, out, work, indices)
    return out.astype(ct.dtype, copy=False)


def _partial(k: int, sums: Array, *indices: Array, out: Array) -> LinearMap | None:
    size = sums.shape[-1]
    return _map(sums, out, indices, substitute, lambda t: substitute_back(t, *indices, size=size)) if k == 0 else None


def _back_partial(k: int, ct: Array, *indices: Array, out: Array, size: int) -> LinearMap | None:
    return (
        _map(ct, out, indices, lambda t, *i: substitute_back(t, *i, size=size), lambda t: substitute(t, *indices))
        if k == 0
        else None
    )


def _map(
    x: Array, out: Array, indices: Sequence[Array], apply: Callable[..., Array], adjoint: Callable[[Array], Array]
) -> Implicit:
    return Implicit(lambda t: apply(t, *indices), adjoint, x, out, cost=0)


def _batch(primitive: str) -> Callable[[int, Sequence[Array], Sequence[bool], Params], Array]:
    def batch(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Array:
        run = substitute if primitive == "substitute" else substitute_back
        x, *indices = args
        if not any(batched[1:]):
            return run(x, *indices, **params)
        x = x if batched[0] else broadcast_to(x, shape=(size, *np.shape(x)))
        rows = []
        for i in range(size):
            own = [slice_(a, key=(i,)) if b else a for a, b in zip(indices, batched[1:], strict=True)]
            row = run(slice_(x, key=(i,)), *own, **params)
            rows.append(reshape(row, shape=(1, *row.shape)))
        return concatenate(*rows, axis=0)

    return batch


# The path 0 - 1 - 2 - 3 in two colours, ends first: three terms in six sums.
_PATH = (np.array([0, 2, 1]), np.array([0, 3, 5]), np.array([1, 2, 4]))


def _samples() -> Iterator[Sample]:
    yield (draw(6), *_PATH), {}
    yield (draw(2, 6), *_PATH), {}


def _back_samples() -> Iterator[Sample]:
    yield (draw(3), *_PATH), {"size": 6}


substitute = RoomPrimitive(
    name="substitute",
    compute=_value,
    types=lambda sums, order, source, sink: ArrayType((*sums.shape[:-1], *order.shape), sums.dtype),
    partials=(),
    variadic=_partial,
    batching=_batch("substitute"),
    cost=lambda args, outs, params: outs[0].size,
    examples=_samples,
)

substitute_back = RoomPrimitive(
    name="substitute_back",
    compute=_back_value,
    types=lambda ct, order, source, sink, size: ArrayType((*ct.shape[:-1], size), ct.dtype),
    partials=(),
    variadic=_back_partial,
    batching=_batch("substitute_back"),
    cost=lambda args, outs, params: args[0].size,
    examples=_back_samples,
)

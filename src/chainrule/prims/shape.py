"""Operations that move elements without computing: reshape, transpose, broadcast_to, concatenate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import Params, RoomPrimitive, Sample
from chainrule.ir.types import Array, ArrayType, Shape
from chainrule.linear import Expand, Permute, Place, Reshape


def free(_args: Sequence[ArrayType], _outs: Sequence[ArrayType], _params: Params) -> int:
    """The cost of moving elements, in floating-point operations."""
    return 0


def draw(*shape: int) -> np.ndarray[Any, Any]:
    """A sample array of a shape."""
    return np.random.default_rng(len(shape)).uniform(-2, 2, shape)


# ---- reshape[shape](x)


def _reshape_types(x: ArrayType, *, shape: Shape) -> ArrayType:
    if prod(shape) != x.size:
        raise ValueError(f"cannot reshape {x} into shape {shape}")
    return ArrayType(shape, x.dtype)


def _reshape_samples() -> Iterator[Sample]:
    yield (draw(2, 3),), {"shape": (6,)}
    yield (draw(2, 3),), {"shape": (3, 1, 2)}
    yield (draw(0, 2),), {"shape": (0,)}
    yield (draw(1, 1),), {"shape": ()}


reshape: RoomPrimitive = RoomPrimitive(
    name="reshape",
    compute=lambda x, shape: np.reshape(x, shape) if shape else np.reshape(x, shape)[()],
    types=_reshape_types,
    typed=True,
    partials=(lambda x, out, shape: Reshape(x, shape),),
    batching=lambda size, args, batched, params: reshape(args[0], shape=(size, *params["shape"])),
    cost=free,
    examples=_reshape_samples,
    view=True,
)

# ---- transpose[axes](x)


def _transpose_types(x: ArrayType, *, axes: tuple[int, ...]) -> ArrayType:
    if len(axes) != len(x.shape):
        raise ValueError(f"{len(axes)} axes of {x}")
    return ArrayType(tuple([x.shape[a] for a in axes]), x.dtype)


def _transpose_samples() -> Iterator[Sample]:
    yield (draw(2, 3),), {"axes": (1, 0)}
    yield (draw(2, 3, 4),), {"axes": (1, 2, 0)}


transpose: RoomPrimitive = RoomPrimitive(
    name="transpose",
    compute=lambda x, axes: x.transpose(axes),
    types=_transpose_types,
    typed=True,
    partials=(lambda x, out, axes: Permute(axes, x),),
    batching=lambda size, args, batched, params: transpose(args[0], axes=(0, *(a + 1 for a in params["axes"]))),
    cost=free,
    examples=_transpose_samples,
    view=True,
)

# ---- broadcast_to[shape](x)

# Below this size a copy is made faster than a broadcast view; above, a view saves the memory traffic.
_COPY_BELOW = 1 << 14


def _broadcast_value(x: Any, *, shape: Shape) -> Any:
    size = 1
    for n in shape:
        size *= n
    if size > _COPY_BELOW:
        return np.broadcast_to(x, shape)
    if not hasattr(x, "dtype"):
        x = np.asarray(x)
    out = np.empty(shape, x.dtype)
    if x.ndim == 0:
        out.fill(x)
    else:
        out[...] = x
    return out


def _broadcast_types(x: ArrayType, *, shape: Shape) -> ArrayType:
    lead = len(shape) - len(x.shape)
    if lead < 0 or any(n not in (1, m) for n, m in zip(x.shape, shape[lead:], strict=True)):
        raise ValueError(f"cannot broadcast {x} to shape {shape}")
    return ArrayType(shape, x.dtype)


def _broadcast_batch(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Array:
    (x,) = args
    shape = params["shape"]
    lead = (1,) * (len(shape) - (x.ndim - 1))
    return broadcast_to(reshape(x, shape=(size, *lead, *x.shape[1:])), shape=(size, *shape))


def _broadcast_samples() -> Iterator[Sample]:
    yield (draw(3),), {"shape": (2, 3)}
    yield (draw(2, 1),), {"shape": (4, 2, 3)}
    yield (draw(),), {"shape": (2,)}


broadcast_to = RoomPrimitive(
    name="broadcast_to",
    compute=_broadcast_value,
    types=_broadcast_types,
    typed=True,
    partials=(lambda x, out, shape: Expand(x, shape),),
    batching=_broadcast_batch,
    cost=free,
    examples=_broadcast_samples,
)

# ---- concatenate[axis](*xs)


def _concatenate_types(*xs: ArrayType, axis: int) -> ArrayType:
    shape = list(xs[0].shape)
    rest = [x.shape[:axis] + x.shape[axis + 1 :] for x in xs]
    if any(len(x.shape) != len(shape) for x in xs) or rest.count(rest[0]) != len(rest):
        raise ValueError(f"cannot join {', '.join(map(str, xs))} along axis {axis}")
    shape[axis] = sum(x.shape[axis] for x in xs)
    return ArrayType(tuple(shape), np.result_type(*(x.dtype for x in xs)))


def _concatenate_partial(k: int, *xs: Array, out: Array, axis: int) -> LinearMap:
    start = 0
    for x in xs[:k]:
        start += x.shape[axis]
    key = (slice(None),) * axis + (slice(start, start + xs[k].shape[axis]),)
    return Place(key, xs[k], out.shape)


def _concatenate_batch(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Array:
    whole = [a if b else broadcast_to(a, shape=(size, *np.shape(a))) for a, b in zip(args, batched, strict=True)]
    return concatenate(*whole, axis=params["axis"] + 1)


def _concatenate_samples() -> Iterator[Sample]:
    yield (draw(2), draw(3)), {"axis": 0}
    yield (draw(2, 1), draw(2, 3), draw(2, 0)), {"axis": 1}


_join = np.concatenate  # slower to find while a thread traces, and called in loops

concatenate = RoomPrimitive(
    name="concatenate",
    compute=lambda *xs, axis: _join(xs, axis),
    types=_concatenate_types,
    typed=True,
    partials=(),
    variadic=_concatenate_partial,
    batching=_concatenate_batch,
    cost=free,
    examples=_concatenate_samples,
)

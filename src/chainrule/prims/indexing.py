"""Indexing: slice[key] for integers, slices, None and Ellipsis; gather[key] for integer arrays; place and scatter_add, their
adjoints; and assemble, which puts boxes of several arrays into one at places in steps.

A key is a tuple; where an index array stands, a gather's key holds a `Slot`, and the array is an argument, so that it may be
batched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import Params, RoomPrimitive, Sample, TracerBase
from chainrule.ir.types import Array, ArrayType, Shape
from chainrule.linear import Gather, Place, Scatter, Slice
from chainrule.linear.maps import Slot, fill
from chainrule.prims.shape import broadcast_to, draw, free, reshape, transpose

Key = tuple[Any, ...]

# So many indices are looked at to find that none is there twice.
_FEW = 64


def _dummy(shape: Shape) -> np.ndarray[Any, Any]:
    return np.broadcast_to(np.zeros((), np.int8), shape)


# ---- slice[key](x)


def _slice_samples() -> Iterator[Sample]:
    yield (draw(5),), {"key": (slice(1, None),)}
    yield (draw(5),), {"key": (2,)}
    yield (draw(3, 4),), {"key": (slice(None, None, -1), 1)}
    yield (draw(3, 4),), {"key": (None, Ellipsis, slice(0, 4, 2))}


def _slice_batch(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Array:
    return slice_(args[0], key=(slice(None), *params["key"]))


def _slice_accumulate(buffer: Any, ct: Any, x: Array, *, key: Key) -> Any:
    if buffer is None:
        buffer = np.zeros(x.shape, ct.dtype)
        buffer[key] = ct
        return buffer
    part = buffer[key]
    if type(part) is np.ndarray:
        part += ct
    else:  # an element, which NumPy hands out as a number
        buffer[key] = part + ct
    return buffer


slice_ = RoomPrimitive(
    name="slice",
    compute=lambda x, key: x[key],
    types=lambda x, key: ArrayType(_dummy(x.shape)[key].shape, x.dtype),
    typed=True,
    partials=(lambda x, out, key: Slice(key, x, out),),
    batching=_slice_batch,
    cost=free,
    examples=_slice_samples,
    view=True,
    accumulate=_slice_accumulate,
)

# ---- place[key, shape](x)


def _place_value(x: Any, *, key: Key, shape: Shape) -> Any:
    out = np.zeros(shape, x.dtype)
    out[key] = x
    return out


def _place_types(x: ArrayType, *, key: Key, shape: Shape) -> ArrayType:
    _check_fits(x, _dummy(shape)[key].shape)
    return ArrayType(shape, x.dtype)


def _check_fits(x: ArrayType, room: Shape) -> None:
    """That an array can be assigned to where there is room of a shape."""
    if x.shape != room and np.broadcast_shapes(x.shape, room) != room:
        raise ValueError(f"cannot put {x} where there is room for {room}")


def _place_samples() -> Iterator[Sample]:
    yield (draw(4),), {"key": (slice(1, None),), "shape": (5,)}
    yield (draw(3),), {"key": (slice(None, None, -1), 1), "shape": (3, 4)}


def _place_batch(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Array:
    return place(args[0], key=(slice(None), *params["key"]), shape=(size, *params["shape"]))


place = RoomPrimitive(
    name="place",
    compute=_place_value,
    types=_place_types,
    typed=True,
    partials=(lambda x, out, key, shape: Place(key, x, shape),),
    batching=_place_batch,
    cost=free,
    examples=_place_samples,
)

# ---- gather[key](x, *indices) and scatter_add[key, shape](ct, *indices)


def _gather_value(x: Any, *indices: Any, key: Key) -> Any:
    return x[fill(key, indices)]


def _gather_partial(k: int, x: Array, *indices: Array, out: Array, key: Key) -> Gather | None:
    return Gather(key, indices, x, out) if k == 0 else None


def _gather_accumulate(buffer: Any, ct: Any, x: Array, *indices: Any, key: Key) -> Any:
    if any(isinstance(i, TracerBase) for i in indices):
        return None
    if buffer is None:
        return _scatter_value(ct, *indices, key=key, shape=x.shape)
    np.add.at(buffer, fill(key, indices), ct)
    return buffer


def _scatter_value(ct: Any, *indices: Any, key: Key, shape: Shape) -> Any:
    out = np.zeros(shape, ct.dtype)
    if len(indices) == 1 and _are_distinct(indices[0]):
        out[fill(key, indices)] = ct
    else:
        np.add.at(out, fill(key, indices), ct)
    return out


def _are_distinct(index: Any) -> bool:
    """Whether few indices are seen at once to differ, so that nothing is to be added up."""
    i = np.asarray(index)
    return 0 < i.size <= _FEW and bool(i.min() >= 0) and len(set(i.ravel().tolist())) == i.size


def _scatter_partial(k: int, ct: Array, *indices: Array, out: Array, key: Key, shape: Shape) -> Scatter | None:
    return Scatter(key, indices, ct, shape) if k == 0 else None


def leading_broadcast(key: Key, indices: Sequence[Array]) -> bool:
    """Whether NumPy moves the indexed axes to the front: index arrays apart from each other, by a slice between them."""
    places = [i for i, p in enumerate(key) if isinstance(p, Slot | int | np.integer)]
    return bool(places) and any(not isinstance(p, Slot | int | np.integer) for p in key[places[0] : places[-1]])


def _index_rank(key: Key, indices: Sequence[Array], batched: Sequence[bool]) -> int:
    return max((np.ndim(i) - b for i, b in zip(indices, batched, strict=True)), default=0)


def _batched_indices(size: int, indices: Sequence[Array], batched: Sequence[bool], rank: int) -> list[Array]:
    """Index arrays of rank + 1, the batch first, and before them the batch's own numbers."""
    rows = np.arange(size).reshape((size,) + (1,) * rank)
    out: list[Array] = [rows]
    for i, b in zip(indices, batched, strict=True):
        shape = np.shape(i)
        own = shape[1:] if b else shape
        out.append(reshape(i, shape=((size if b else 1), *(1,) * (rank - len(own)), *own)))
    return out


def _shift(key: Key) -> Key:
    return tuple(Slot(p.k + 1) if isinstance(p, Slot) else p for p in key)


def _gather_batch(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Array:
    x, *indices = args
    key = params["key"]
    x_batched, *index_batched = batched
    if x_batched and not any(index_batched):
        if not leading_broadcast(key, indices):
            return gather(x, *indices, key=(slice(None), *key))
    elif not x_batched:
        x = broadcast_to(x, shape=(size, *np.shape(x)))
    rank = _index_rank(key, indices, index_batched)
    rows = _batched_indices(size, indices, index_batched, rank)
    out = gather(x, *rows, key=(Slot(0), *_shift(key)))
    return _restore(out, key, rank)


def _first_index(key: Key) -> int:
    """How many result axes stand before the first indexed one."""
    before = 0
    for p in key:
        if isinstance(p, Slot | int | np.integer):
            break
        before += 1
    return before


def _restore(out: Array, key: Key, rank: int) -> Array:
    """With batch numbers among the indices, the indexed axes are in front; put them where the plain key has them."""
    before = 0 if leading_broadcast(key, ()) else _first_index(key)
    if before == 0:
        return out
    # The key begins with `before` slices: NumPy put (batch, index axes) first, the sliced axes after.
    axes = (0, *range(1 + rank, 1 + rank + before), *range(1, 1 + rank), *range(1 + rank + before, out.ndim))
    return transpose(out, axes=axes)


def _scatter_batch(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Array:
    ct, *indices = args
    key, shape = params["key"], params["shape"]
    if not batched[0]:
        ct = broadcast_to(ct, shape=(size, *np.shape(ct)))
    index_batched = batched[1:]
    if not any(index_batched) and not leading_broadcast(key, indices):
        return scatter_add(ct, *indices, key=(slice(None), *key), shape=(size, *shape))
    rank = _index_rank(key, indices, index_batched)
    rows = _batched_indices(size, indices, index_batched, rank)
    before = 0 if leading_broadcast(key, ()) else _first_index(key)
    if before:
        axes = (0, *range(1 + before, 1 + before + rank), *range(1, 1 + before), *range(1 + before + rank, ct.ndim))
        ct = transpose(ct, axes=axes)
    return scatter_add(ct, *rows, key=(Slot(0), *_shift(key)), shape=(size, *shape))


_SAMPLE_INDICES = (np.array([0, 2, 2]), np.array([[1, 0, 3]]))


def _indexed(shape: Shape, indices: Sequence[ArrayType], key: Key) -> Shape:
    """The shape of an array indexed by arrays: that of one element of each, in the place of which their common shape is put."""
    if any(i.dtype.kind not in "iu" for i in indices):
        raise IndexError("arrays used as indices must be of integer type")
    several = np.broadcast_shapes(*(i.shape for i in indices))
    one = np.zeros((1,) * len(several), np.intp)
    found: Shape = _dummy(shape)[fill(key, [one] * len(indices))].shape
    before = 0 if leading_broadcast(key, ()) else _first_index(key)
    return found[:before] + several + found[before + len(several) :]


def _scatter_types(ct: ArrayType, *indices: ArrayType, key: Key, shape: Shape) -> ArrayType:
    _check_fits(ct, _indexed(shape, indices, key))
    return ArrayType(shape, ct.dtype)


def _gather_samples() -> Iterator[Sample]:
    i, j = _SAMPLE_INDICES
    yield (draw(4), i), {"key": (Slot(0),)}
    yield (draw(3, 4), i), {"key": (Slot(0),)}
    yield (draw(3, 4), j), {"key": (slice(None), Slot(0))}
    yield (draw(3, 4), i, j), {"key": (Slot(0), Slot(1))}
    yield (draw(3, 2, 4), i, j), {"key": (Slot(0), slice(None), Slot(1))}
    yield (draw(2, 3, 2, 4), i, j), {"key": (slice(None), Slot(0), slice(None), Slot(1))}
    yield (draw(2, 3, 4, 2), i, j), {"key": (slice(None), Slot(0), Slot(1))}
    yield (draw(2, 3, 4), j), {"key": (slice(0, 1), slice(None, None, 2), Slot(0))}
    yield (draw(3, 2, 2), i), {"key": (Slot(0), 1)}
    yield (draw(2, 3, 3), i), {"key": (1, slice(None), Slot(0))}


def _scatter_samples() -> Iterator[Sample]:
    for (x, *indices), params in _gather_samples():
        yield (gather(x, *indices, **params), *indices), {**params, "shape": x.shape}


gather = RoomPrimitive(
    name="gather",
    compute=_gather_value,
    types=lambda x, *indices, key: ArrayType(_indexed(x.shape, indices, key), x.dtype),
    typed=True,
    partials=(),
    variadic=_gather_partial,
    batching=_gather_batch,
    cost=free,
    examples=_gather_samples,
    accumulate=_gather_accumulate,
)

scatter_add = RoomPrimitive(
    name="scatter_add",
    compute=_scatter_value,
    types=_scatter_types,
    typed=True,
    partials=(),
    variadic=_scatter_partial,
    batching=_scatter_batch,
    cost=free,
    examples=_scatter_samples,
)

# ---- assemble[pieces, size](*xs)

# A number of an argument; a box in it, from and to; where its first element goes, and the steps along its axes.
Piece = tuple[int, tuple[int, ...], tuple[int, ...], int, tuple[int, ...]]


def _assemble_value(*xs: Any, pieces: Sequence[Piece], size: int) -> Any:
    out = np.zeros(size, np.result_type(*xs))
    for piece in pieces:
        _check_piece(piece, xs, size)
        k, low, high, first, steps = piece
        part = xs[k][tuple(map(slice, low, high))]
        if part.size:
            strides = [s * out.itemsize for s in steps]
            np.lib.stride_tricks.as_strided(out[first:], part.shape, strides)[...] = part
    return out


def _check_piece(piece: Piece, xs: Sequence[Any], size: int) -> None:
    """That a piece lies in its argument and goes into the result: nothing checks it when it is copied."""
    k, low, high, first, steps = piece
    if not all(0 <= a <= b <= n for a, b, n in zip(low, high, xs[k].shape, strict=True)):
        raise IndexError(f"a piece from {low} to {high} of an array of shape {xs[k].shape}")
    ends = [(b - a - 1) * s for a, b, s in zip(low, high, steps, strict=True)]
    least, most = first + sum(min(e, 0) for e in ends), first + sum(max(e, 0) for e in ends)
    if all(a < b for a, b in zip(low, high, strict=True)) and not 0 <= least <= most < size:
        raise IndexError(f"a piece from place {first} in steps {steps} reaches out of an array of {size}")


def _assemble_type(*xs: ArrayType, pieces: Sequence[Piece], size: int) -> ArrayType:
    for piece in pieces:
        _check_piece(piece, xs, size)
    return ArrayType((size,), np.result_type(*(x.dtype for x in xs)))


def piece_places(pieces: Sequence[Piece], k: int, shape: Shape, size: int) -> np.ndarray[Any, Any]:
    """Where the elements of the k-th argument of an `assemble` go; `size` for those that go nowhere."""
    out = np.full(shape, size)
    for number, low, high, first, steps in pieces:
        if number == k:
            grid = np.ix_(*(np.arange(b - a) * s for a, b, s in zip(low, high, steps, strict=True)))
            out[tuple(map(slice, low, high))] = sum(grid, np.int64(first))
    return out


def _assemble_partial(k: int, *xs: Array, out: Array, pieces: Sequence[Piece], size: int) -> LinearMap:
    """Scattered, with one element more for what goes nowhere."""
    spare = ArrayType((size + 1,), out.dtype)
    put = Scatter((Slot(0),), (piece_places(pieces, k, xs[k].shape, size),), xs[k], (size + 1,))
    from chainrule.linear.algebra import Composition  # which makes up a sixth of chainrule's own import

    return Composition(Slice((slice(0, size),), spare, out), put)


def _assemble_batch(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Array:
    whole = [a if b else broadcast_to(a, shape=(size, *np.shape(a))) for a, b in zip(args, batched, strict=True)]
    one = params["size"]
    pieces = tuple(
        (k, (0, *low), (size, *high), first, (one, *steps)) for k, low, high, first, steps in params["pieces"]
    )
    return reshape(assemble(*whole, pieces=pieces, size=size * one), shape=(size, one))


def _assemble_samples() -> Iterator[Sample]:
    yield (draw(3), draw(3)), {"pieces": ((0, (0,), (3,), 0, (2,)), (1, (1,), (3,), 1, (2,))), "size": 6}
    yield (draw(2, 3),), {"pieces": ((0, (0, 0), (2, 2), 1, (3, 1)), (0, (1, 2), (2, 3), 0, (0, 0))), "size": 6}


assemble = RoomPrimitive(
    name="assemble",
    compute=_assemble_value,
    types=_assemble_type,
    typed=True,
    partials=(),
    variadic=_assemble_partial,
    batching=_assemble_batch,
    cost=free,
    examples=_assemble_samples,
)

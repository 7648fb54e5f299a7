"""The entries of a sparse matrix from arrays of them: where each goes, and the operation that puts it there.

Arrays whose entries go to places in steps, box by box, are put there by one `assemble`, which a kernel does while it computes
them. Others are taken by index, or added up where several go to one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.ir.primitive import ops
from chainrule.ir.types import Array, Shape
from chainrule.linear.maps import Slot, convert
from chainrule.trace.sparse import Layout

Ints = NDArray[Any]
Piece = tuple[int, tuple[int, ...], tuple[int, ...], int, tuple[int, ...]]

# The most elements of an array's last axes that are taken apart, the most boxes in all, and the most cuts of one axis.
_MOST_APART, _MOST_PIECES, _MOST_CUTS = 64, 256, 6
# A place that is in step with no other.
_NOWHERE = -(2**60)


@dataclass(frozen=True, eq=False)
class Assembly:
    """Where arrays of entries go: by pieces of arrays of the shape `lanes`, else by index, else added up at their targets."""

    layout: Layout
    lanes: Shape = ()
    pieces: tuple[Piece, ...] = ()
    index: Ints | None = None
    target: Ints | None = None


def assembly(keys: Sequence[Ints], shape: tuple[int, int], *, symmetric: bool = False) -> Assembly:
    """Where entries go whose numbers, row times width plus column, are given, -1 for none.

    Of a symmetric matrix those are left out whose mirrored entries are not there.
    """
    whole = np.concatenate([*(k.ravel() for k in keys), np.zeros(0, np.int64)])
    order, first, own = _sorted(whole)
    if symmetric and not (mirrored := _mirrored(own, max(shape[1], 1))).all():
        whole[order[~mirrored[np.cumsum(first) - 1]]] = -1
        order, first, own = _sorted(whole)
    rows = own // max(shape[1], 1)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
    layout = Layout(indptr, own - rows * shape[1], shape)
    places = np.full(len(whole), -1, np.int64)
    places[order] = np.cumsum(first) - 1
    if not first.all():
        return Assembly(layout, target=np.where(places < 0, len(own), places))
    ends = np.cumsum([k.size for k in keys])
    parts = [places[end - k.size : end].reshape(k.shape) for k, end in zip(keys, ends, strict=True)]
    lanes, pieces = _pieces(parts)
    return Assembly(layout, lanes, pieces) if pieces else Assembly(layout, index=order)


def _sorted(whole: Ints) -> tuple[Ints, NDArray[np.bool_], Ints]:
    """The order that sorts the numbers that are not -1, which of them in it are the first of their kind, and these."""
    order = np.argsort(whole, kind="stable")
    found = whole[order]
    skipped = np.searchsorted(found, 0)
    order, found = order[skipped:], found[skipped:]
    first = np.ones(len(order), bool)
    first[1:] = found[1:] != found[:-1]
    return order, first, found[first]


def _mirrored(own: Ints, n: int) -> NDArray[np.bool_]:
    """Which numbers, sorted, have their mirrored ones among them."""
    turned = own % n * n + own // n
    if np.array_equal(np.sort(turned, kind="stable"), own):
        return np.ones(len(own), bool)
    return np.isin(turned, own)


# ---- places in steps


def _pieces(parts: Sequence[Ints]) -> tuple[Shape, tuple[Piece, ...]]:
    """Arrays of places, all taken apart to one shape, as boxes on which they go in steps; none where that is not so."""
    lanes = _common([p.shape for p in parts])
    if lanes is None:
        return (), ()
    found: list[Piece] = []
    for k, p in enumerate(apart for part in parts for apart in _apart(part, len(lanes))):
        boxes = _boxes(p)
        if boxes is None or len(found) + len(boxes) > _MOST_PIECES:
            return (), ()
        found += [(k, *box) for box in boxes]
    return lanes, tuple(found)


def _common(shapes: Sequence[Shape]) -> Shape | None:
    """The leading axes that all shapes have, if what they have beside is short."""
    if not shapes:
        return None
    rank = 0
    while all(len(s) > rank for s in shapes) and len({s[rank] for s in shapes}) == 1:
        rank += 1
    return shapes[0][:rank] if all(prod(s[rank:]) <= _MOST_APART for s in shapes) else None


def _apart(x: Any, rank: int) -> list[Any]:
    """An array as those of its first axes."""
    if x.ndim == rank:
        return [x]
    rest = product(*(range(n) for n in x.shape[rank:]))
    return [ops.slice(x, key=(*(slice(None),) * rank, *at)) for at in rest]


def _boxes(p: Ints) -> list[tuple[Any, ...]] | None:
    """Boxes (from, to, first place, steps) that hold all places that are not -1."""
    far = np.where(p < 0, _NOWHERE, p)
    cuts = [_cuts(np.moveaxis(far, axis, 0)) for axis in range(p.ndim)]
    if any(c is None for c in cuts):
        return None
    found = []
    for box in product(*(pairwise(c) for c in cuts if c is not None)):
        lo, hi = tuple(a for a, _ in box), tuple(b for _, b in box)
        part = p[tuple(slice(a, b) for a, b in box)]
        if (part < 0).all():
            continue
        first = int(part[(0,) * part.ndim])
        steps = tuple(
            int(part[tuple(int(i == axis) for i in range(part.ndim))]) - first if n > 1 else 0
            for axis, n in enumerate(part.shape)
        )
        grid = np.ix_(*(np.arange(n) * s for n, s in zip(part.shape, steps, strict=True)))
        if part.min() < 0 or not np.array_equal(part, sum(grid, np.int64(first))):
            return None
        found.append((lo, hi, first, steps))
    return found


def _cuts(p: Ints) -> list[int] | None:
    """Where the steps along the first axis change, ends included."""
    n = p.shape[0]
    if n < 3:
        return list(range(n + 1)) if n else None
    steps = np.diff(p.reshape(n, -1), axis=0)
    same = (steps[1:] == steps[:-1]).all(axis=1)
    breaks = np.flatnonzero(~same)
    if len(breaks) > 2 * _MOST_CUTS:
        return None
    cuts, start = [0], 0
    while start < n:
        if start + 2 >= n or not same[start]:
            start += 1
        else:
            later = breaks[breaks > start]
            start = int(later[0]) + 2 if len(later) else n
        cuts.append(start)
    return cuts


# ---- the operation


def assembled(values: Sequence[Array], how: Assembly, dtype: np.dtype[Any]) -> Array:
    """The entries in order, from arrays of them."""
    nnz = len(how.layout.indices)
    if not nnz:
        return np.zeros(nnz, dtype)
    values = [v if v.dtype == dtype else convert(v, dtype) for v in values]
    if how.pieces:
        args = [x for v in values for x in _apart(v, len(how.lanes))]
        used = sorted({piece[0] for piece in how.pieces})
        number = {k: i for i, k in enumerate(used)}
        pieces = tuple((number[k], *rest) for k, *rest in how.pieces)
        return ops.assemble(*(args[k] for k in used), pieces=pieces, size=nnz)
    flat = [ops.reshape(v, shape=(prod(v.shape),)) for v in values]
    whole = flat[0] if len(flat) == 1 else ops.concatenate(*flat, axis=0)
    if how.index is not None:
        return ops.gather(whole, how.index, key=(Slot(0),))
    added = ops.scatter_add(whole, how.target, key=(Slot(0),), shape=(nnz + 1,))
    return ops.slice(added, key=(slice(0, nnz),))

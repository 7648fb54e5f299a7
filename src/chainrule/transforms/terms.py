"""What each vertex of a graph depends on, as a few terms: places and what the values there are the sum of.

A term gives for each element of the vertex one input, its place (-1 for none), and one value, the derivative by it; values are
arrays of the vertex's own shape. Maps that multiply or move elements multiply and move the values, sums over short axes become
several terms, and terms whose places agree are added up. The same holds backwards: for each element of a vertex one output that
it feeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import ops
from chainrule.ir.types import Array, Shape
from chainrule.linear import maps
from chainrule.linear.algebra import transpose
from chainrule.linear.dependence import NOTHING, Groups, move
from chainrule.linear.forms import Einsum, as_einsum
from chainrule.transforms.linearised import Linearised

Ints = NDArray[Any]
Labels = tuple[int, ...]
At = tuple[int, ...] | None

# Sums of more elements than this are not taken apart, and vertices of more terms are left to sweeps.
_MOST_SUMMED, _MOST_TERMS = 24, 48
# The maps that only move elements.
MOVES = (maps.Slice, maps.Place, maps.Gather, maps.Scatter, maps.Reshape, maps.Permute)


class Part(NamedTuple):
    """One contribution to a term: a term of another vertex through an edge, at an index along what the map sums over.

    `edge` is (sink, number among its edges), `term` the number among the terms of the edge's other end; `keep` is where the
    contribution counts, None for everywhere. `placed` is where it has places at all, None for everywhere.
    """

    edge: tuple[int, int]
    term: int
    at: At
    keep: Any
    placed: Any


class Term:
    """The places of a term, and what its values are the sum of; a seed has no parts, and is one where it is placed."""

    __slots__ = ("is_even", "parts", "placed", "places")

    def __init__(self, places: Ints, parts: Sequence[Part] = ()) -> None:
        self.places = places
        self.parts = list(parts)

    def settle(self) -> None:
        """Keep of the places where there are some (None for everywhere), and whether every part counts all over there."""
        self.placed = _placed(self.places)
        self.is_even = all(p.keep is None and _same(p.placed, self.placed) for p in self.parts)
        del self.places


def _same(a: Any, b: Any) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))


def _placed(places: Ints) -> Any:
    return None if not places.size or places.min() >= 0 else places >= 0


Terms = list[Term] | None
Found = tuple[At, Ints]


# ---- places through one map


def _through(m: LinearMap, places: Ints, *, forward: bool) -> list[Found] | None:
    """The places of a term on the other side of a map, in one piece or one for each index along what is summed."""
    moved = _moved(m, places, forward=forward)
    if moved is not None:
        return [(None, moved)]
    einsum = as_einsum(m)
    return None if einsum is None else _split(einsum, places, forward=forward)


def _moved(m: LinearMap, places: Ints, *, forward: bool) -> Ints | None:
    """The places moved, where each element on the other side has one of them."""
    if not forward:
        if isinstance(m, maps.Scale | maps.Diagonal | maps.Mask | maps.Expand):
            return places if m.in_shape == m.out_shape else None
        if not isinstance(m, MOVES):
            return None
        m = transpose(m) if not isinstance(m, maps.Permute) else _inverse(m)
    found = move(m, places)
    if isinstance(found, np.ndarray):
        return found
    if isinstance(m, maps.Scatter) and isinstance(found, Groups):
        return _injected(found.target, places, m.out_shape)
    return None


def _inverse(m: maps.Permute) -> maps.Permute:
    return maps.Permute(
        tuple(int(a) for a in np.argsort(m.axes)), np.broadcast_to(np.zeros((), m.in_dtype), m.out_shape)
    )


def _injected(target: Ints, places: Ints, shape: Shape) -> Ints | None:
    """The places scattered, where no two go to one element."""
    flat = target.ravel()
    if np.bincount(flat, minlength=1).max() > 1:
        return None
    out = np.full(prod(shape), NOTHING, places.dtype)
    out[flat] = places.ravel()
    return out.reshape(shape)


def _sides(e: Einsum, *, forward: bool) -> tuple[Labels, Labels]:
    return (e.inner, e.outer) if forward else (e.outer, e.inner)


def _summed(e: Einsum, *, forward: bool) -> Labels:
    given, wanted = _sides(e, forward=forward)
    return tuple(a for a in given if a not in wanted)


def _split(e: Einsum, places: Ints, *, forward: bool) -> list[Found] | None:
    given, wanted = _sides(e, forward=forward)
    summed = _summed(e, forward=forward)
    axes = tuple(given.index(a) for a in summed)
    first = places[tuple(slice(0, 1) if i in axes else slice(None) for i in range(places.ndim))]
    if places.size and np.array_equal(places, np.broadcast_to(first, places.shape)):
        return [(None, _spread(first.reshape(_without(first.shape, axes)), given, axes, wanted, e.extents))]
    if prod(e.extents[a] for a in summed) > _MOST_SUMMED:
        return None
    return [
        (at, _spread(places[_key(at, axes, places.ndim)], given, axes, wanted, e.extents))
        for at in product(*(range(e.extents[a]) for a in summed))
    ]


def taken_at(e: Einsum, at: Sequence[int], x: Array, *, forward: bool) -> tuple[Array, Einsum]:
    """A value and the map that it goes through, both at an index along what the map sums over."""
    given, _ = _sides(e, forward=forward)
    summed = _summed(e, forward=forward)
    x = ops.slice(x, key=_key(at, [given.index(a) for a in summed], len(given)))
    return x, e.at(dict(zip(summed, at, strict=True)))


def _without(shape: Shape, axes: Sequence[int]) -> Shape:
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def _key(at: Sequence[int], axes: Sequence[int], rank: int) -> tuple[Any, ...]:
    """The key that takes an array at an index along some of its axes."""
    where = dict(zip(axes, at, strict=True))
    return tuple(where.get(i, slice(None)) for i in range(rank))


def _spread(places: Ints, given: Labels, axes: Sequence[int], wanted: Labels, extents: dict[int, int]) -> Ints:
    """Places with the labels of `given` but for those at `axes`, laid out for the labels `wanted`."""
    left = tuple(a for i, a in enumerate(given) if i not in axes)
    turned = places.transpose([left.index(a) for a in wanted if a in left])
    shape = [extents[a] if a in left else 1 for a in wanted]
    return np.broadcast_to(turned.reshape(shape), tuple(extents[a] for a in wanted))


# ---- terms of one vertex


def _combined(found: Sequence[tuple[Ints, Part]]) -> list[Term] | None:
    """Contributions to a vertex as few terms."""
    terms: list[Term] = []
    for places, part in found:
        for term in terms:
            both = merged(term.places, places)
            if both is not None:
                term.places = both
                term.parts.append(part)
                break
        else:
            terms.append(Term(places, [part]))
            if len(terms) > _MOST_TERMS:
                return None
    if len(terms) > 2:
        for term in list(terms):
            others = [t for t in terms if t is not term]
            if len(others) > 1 and _distributed(term, others):
                terms = others
    return terms


def merged(a: Ints, b: Ints) -> Ints | None:
    """The places of both, where they agree wherever both have one."""
    if a is b:
        return a
    if a.size and any(_differ(a.item(end), b.item(end)) for end in (0, -1)):
        return None
    few = _few(a)
    if few is not None and not _agree(a[few], b[few]):
        return None
    return np.maximum(a, b) if _agree(a, b) else None


def _differ(a: int, b: int) -> bool:
    return a != b and a >= 0 and b >= 0


def _few(places: Ints) -> slice | None:
    """Some elements of a long array, by which most of what does not fit is found out."""
    return slice(None, None, places.shape[0] // 16) if places.ndim and places.shape[0] > 64 else None


def _agree(a: Ints, b: Ints) -> bool:
    return bool(np.all((a == b) | (a == NOTHING) | (b == NOTHING)))


def _distributed(term: Term, others: list[Term]) -> bool:
    """Give each element of a term to another that has the same place there, if there is one for all."""
    if any(p.keep is not None for p in term.parts):
        return False
    few = _few(term.places)
    if few is not None and not _covered(term.places[few], [t.places[few] for t in others]):
        return False
    left = term.places >= 0
    shares = []
    for other in others:
        mine = left & (other.places == term.places)
        if mine.any():
            shares.append((other, mine))
            left &= ~mine
    if left.any():
        return False
    for other, mine in shares:
        other.parts.extend(p._replace(keep=box(mine)) for p in term.parts)
    return True


def _covered(places: Ints, others: Sequence[Ints]) -> bool:
    """Whether every place is that of another term too."""
    left = places >= 0
    for other in others:
        left = left & (other != places)
    return not left.any()


def box(mask: NDArray[np.bool_]) -> Any:
    """A mask as the key of a box, if it is one."""
    key = []
    for axis in range(mask.ndim):
        line = np.flatnonzero(mask.any(axis=tuple(i for i in range(mask.ndim) if i != axis)))
        key.append(slice(int(line[0]), int(line[-1]) + 1))
    return tuple(key) if mask[tuple(key)].all() else mask


# ---- both ways through the graph


def forwards(graph: Linearised) -> list[Terms]:
    """The forward terms of every vertex; None where there are none to be had."""
    found: list[Terms] = [None] * len(graph.types)
    offset = 0
    for v in graph.inputs:
        found[v] = [Term(numbers(offset, graph.types[v].shape))]
        offset += graph.types[v].size
    for v, edges in enumerate(graph.incoming):
        if edges:
            found[v] = entering(graph, found, v, range(len(edges)))
    return found


def numbers(offset: int, shape: Shape) -> Ints:
    """The numbers of the elements of an array that begins at an offset, in its shape."""
    last = offset + prod(shape)
    return np.arange(offset, last, dtype=np.int32 if last < 2**31 else np.int64).reshape(shape)


def entering(graph: Linearised, found: Sequence[Terms], v: int, edges: Sequence[int]) -> Terms:
    """Forward terms of a vertex by some of its edges; None where there are none to be had."""
    parts: list[tuple[Ints, Part]] = []
    for i in edges:
        s, m = graph.incoming[v][i]
        if not _carried(parts, found[s], m, (v, i), forward=True):
            return None
    return _combined(parts)


def _carried(
    parts: list[tuple[Ints, Part]], terms: Terms, m: LinearMap, edge: tuple[int, int], *, forward: bool
) -> bool:
    if terms is None:
        return False
    for k, term in enumerate(terms):
        through = _through(m, term.places, forward=forward)
        if through is None:
            return False
        parts.extend((places, Part(edge, k, at, None, _placed(places))) for at, places in through)
    return len(parts) <= _MOST_TERMS * _MOST_SUMMED


def backwards(graph: Linearised) -> list[Terms]:
    """The backward terms of every vertex; None where there are none to be had."""
    found: list[Terms] = [None] * len(graph.types)
    if any(t.dtype.kind == "c" for t in graph.types):
        return found  # a cotangent gives the real part only
    seeds: dict[int, list[Term]] = {}
    offset = 0
    for v, n in zip(graph.outputs, graph.output_sizes, strict=True):
        if v is not None:
            seeds.setdefault(v, []).append(Term(numbers(offset, graph.types[v].shape)))
        offset += n
    leaving = _numbered_outgoing(graph)
    for v in reversed(range(len(graph.types))):
        parts: list[tuple[Ints, Part]] = []
        if all(_carried(parts, found[w], graph.incoming[w][i][1], (w, i), forward=False) for w, i in leaving[v]):
            rest = _combined(parts)
            found[v] = None if rest is None else [*seeds.get(v, []), *rest]
    return found


def _numbered_outgoing(graph: Linearised) -> list[list[tuple[int, int]]]:
    out: list[list[tuple[int, int]]] = [[] for _ in graph.types]
    for w, edges in enumerate(graph.incoming):
        for i, (s, _) in enumerate(edges):
            out[s].append((w, i))
    return out

"""Where a Jacobian is structurally non-zero, found on arrays.

What an array depends on is a few terms (places, table): element e depends on row places[e] of a table of sets of inputs, on none
where places[e] is -1. The table of an input is the identity, so an array made of an input by slices, shifts and elementwise
operations has one array of places for each shift. Maps that move elements move the places; sums make a new table; a contraction
sums and then spreads the places of its sums. No scalar is ever expanded, and what an array repeats along an axis stays one row.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import is_tracer
from chainrule.ir.types import Shape
from chainrule.linear.dependence import NOTHING, Full, Groups, move
from chainrule.linear.patterns import positions
from chainrule.transforms.linearised import Linearised

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Ints = NDArray[Any]

# An array of more terms than this gets a table of its own.
_MOST_TERMS = 24


class _Identity:
    """The table whose row i is {i}."""


class _Term:
    """Places in a table; tables are compared by identity."""

    __slots__ = ("places", "table")

    def __init__(self, places: Ints, table: Any) -> None:
        self.places = places
        self.table = table


def pattern(graph: Linearised) -> csr_array:
    """Where the Jacobian of all outputs by all inputs, flattened one after the other, may be non-zero: a boolean csr_array.

    It covers the non-zeros for all values that take the same way through the function; it is exact for elementwise operations,
    moves, indexing and contractions, as long as no values cancel.
    """
    n = sum(graph.input_sizes)
    identity = _Identity()
    kind = np.int32 if n < 2**31 - 1 else np.int64
    terms: list[list[_Term]] = [[] for _ in graph.types]
    offset = 0
    for v in graph.inputs:
        size = graph.types[v].size
        terms[v] = [_Term(np.arange(offset, offset + size, dtype=kind).reshape(graph.types[v].shape), identity)]
        offset += size
    uses = [len(edges) for edges in graph.outgoing]
    kept = {*graph.roots, *graph.inputs}
    for v, edges in enumerate(graph.incoming):
        if edges:
            found = [t for s, m in edges for t in _through(m, terms[s], n)]
            terms[v] = _few(_combined(found), graph.types[v].shape, n)
        for s, _ in edges:
            uses[s] -= 1
            if not uses[s] and s not in kept:
                terms[s] = []
    return _stacked(
        [(terms[v] if v is not None else [], k) for v, k in zip(graph.outputs, graph.output_sizes, strict=True)], n
    )


def _stacked(blocks: Sequence[tuple[list[_Term], int]], n: int) -> csr_array:
    rows, columns, start = [], [], 0
    for terms, size in blocks:
        r, c = _pairs(terms, np.arange(start, start + size))
        rows.append(r)
        columns.append(c)
        start += size
    return _canonical(
        np.concatenate([*rows, np.zeros(0, int)]), np.concatenate([*columns, np.zeros(0, int)]), (start, n)
    )


def _canonical(rows: Ints, columns: Ints, shape: tuple[int, int]) -> csr_array:
    """The boolean matrix of these entries, sorted, each once."""
    from scipy.sparse import coo_array, csr_array

    out = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=shape).tocsr()
    out.sum_duplicates()
    return csr_array((np.ones(out.nnz, bool), out.indices, out.indptr), shape=shape)


def _pairs(terms: Sequence[_Term], rows: Ints) -> tuple[Ints, Ints]:
    """(row, input) for every dependence of an array whose elements have the given row numbers."""
    out_rows, out_columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for term in terms:
        flat = term.places.ravel()
        some = flat >= 0
        flat, own = (flat, rows) if some.all() else (flat[some], rows[some])
        if not isinstance(term.table, _Identity):
            count = np.diff(term.table.indptr)[flat]
            first = np.repeat(term.table.indptr[flat] - (np.cumsum(count) - count), count)
            own, flat = np.repeat(own, count), term.table.indices[first + np.arange(len(first))]
        out_rows.append(own)
        out_columns.append(flat)
    return np.concatenate(out_rows), np.concatenate(out_columns)


# ---- one map


def _through(m: LinearMap, terms: Sequence[_Term], n: int) -> list[_Term]:
    """What the output of a map depends on."""
    out: list[_Term] = []
    for term in terms:
        found = move(m, term.places)
        if isinstance(found, np.ndarray):
            out.append(_Term(found, term.table))
        elif isinstance(found, Groups):
            out.append(_grouped(found, term, n))
        elif isinstance(found, Full):
            out.append(_grouped(Groups(np.zeros(m.in_shape, np.int64), (), m.out_shape), term, n))
        else:
            out.append(_multiplied(m, term, n))
    return out


def _grouped(groups: Groups, term: _Term, n: int) -> _Term:
    """Sums of groups of elements: a table with a row for each, whose places are then broadcast."""
    count = int(np.prod(groups.sums, dtype=np.int64))
    places = positions(groups.sums) if groups.sums else np.zeros((), np.int64)
    table = _union(groups.target.ravel(), term, count, n)
    return _Term(np.broadcast_to(places, groups.spread), table)


def _union(target: Ints, term: _Term, count: int, n: int) -> csr_array:
    """For each group the union of what its members depend on."""
    flat = term.places.ravel()
    if flat.size and flat[0] >= 0 and np.all(flat == flat[0]):
        target = np.unique(target)
        flat = np.full(len(target), flat[0])
    if not isinstance(term.table, _Identity):
        width = term.table.shape[0]
        some = flat >= 0
        key = np.unique(target[some] * width + flat[some])
        target, flat = key // width, key % width
    return _canonical(*_pairs([_Term(flat, term.table)], target), (count, n))


def _multiplied(m: LinearMap, term: _Term, n: int) -> _Term:
    """A map that is known by its pattern only."""
    by_pattern = m.pattern().tocoo()
    moved = _Term(term.places.ravel()[by_pattern.coords[1]], term.table)
    size = int(np.prod(m.out_shape, dtype=np.int64))
    table = _union(by_pattern.coords[0].astype(np.int64), moved, size, n)
    return _Term(positions(m.out_shape), table)


# ---- several terms


def _combined(terms: Sequence[_Term]) -> list[_Term]:
    """Terms of one array, those that agree wherever both depend on something put into one."""
    if len(terms) == 1:
        return list(terms)
    out: list[_Term] = []
    for term in terms:
        for i, other in enumerate(out):
            if other.table is term.table and (merged := _merged(other.places, term.places)) is not None:
                out[i] = _Term(merged, term.table)
                break
        else:
            out.append(term)
    return out


def _merged(a: Ints, b: Ints) -> Ints | None:
    if a is b:
        return a
    if a.ndim and a.shape[0] > 64 and not _agree(a[:: a.shape[0] // 16], b[:: a.shape[0] // 16]):
        return None
    if np.array_equal(a, b):
        return a
    return np.maximum(a, b) if _agree(a, b) else None


def _agree(a: Ints, b: Ints) -> bool:
    return bool(np.all((a == b) | (a == NOTHING) | (b == NOTHING)))


def _few(terms: list[_Term], shape: Shape, n: int) -> list[_Term]:
    """The terms, or one with a table of the array's own where they are many."""
    if len(terms) <= _MOST_TERMS:
        return terms
    here = positions(shape)
    return [_Term(here, _canonical(*_pairs(terms, here.ravel()), (here.size, n)))]


# ---- whether a pattern still holds


class Structure(NamedTuple):
    """The static part of a graph, and the index arrays in it."""

    fixed: tuple[Any, ...]
    indices: list[Ints]

    def kept(self) -> Structure:
        """A structure to keep: index arrays are copied, since their owner may change them."""
        return Structure(self.fixed, [x.copy() for x in self.indices])

    def agrees(self, other: Structure) -> bool:
        """Whether two structures give the same pattern."""
        return self.fixed == other.fixed and all(
            x is y or (x.shape == y.shape and bool(np.array_equal(x, y)))
            for x, y in zip(self.indices, other.indices, strict=True)
        )


def structure(graph: Linearised) -> Structure:
    """What the pattern was derived from: the graph and the static part of its maps, without their coefficients."""
    fixed: list[Any] = [tuple(graph.inputs), tuple(graph.outputs), *((t.shape, t.dtype) for t in graph.types)]
    indices: list[Ints] = []
    for v, edges in enumerate(graph.incoming):
        for s, m in edges:
            fixed.append((s, v, type(m)))
            _add_static(m, fixed, indices)
    return Structure(tuple(fixed), indices)


@functools.cache
def _names(cls: type[LinearMap]) -> tuple[str, ...]:
    """What the maps of a class hold."""
    return tuple(name for c in cls.__mro__ for name in getattr(c, "__slots__", ()) if name != "indices")


def _add_static(m: LinearMap, fixed: list[Any], indices: list[Ints]) -> None:
    if not type(m).__module__.startswith("chainrule."):
        by_pattern = m.pattern()  # a map of the user's own may depend on anything
        indices += [by_pattern.indptr, by_pattern.indices]
        return
    for name in _names(type(m)):
        x = getattr(m, name, None)
        if isinstance(x, int | tuple):
            fixed.append(x)
    for i in getattr(m, "indices", ()):
        fixed.append(is_tracer(i))  # traced indices count as any indices
        if not is_tracer(i):
            indices.append(np.asarray(i))

"""Vertex elimination on the graph of arrays: structured maps composed, in a greedy order by what the compositions cost.

Eliminating vertex v replaces the paths through it by compositions of structured maps (`linear.algebra`): diagonals, sums,
broadcasts and matrices multiply to the same kinds of maps without being written out. What an order costs is found by going through
it with arrays that have shapes and no values, so the count of multiplications is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.types import Array, ArrayType
from chainrule.linear import algebra
from chainrule.linear.forms import Einsum, Entries, as_einsum, as_entries
from chainrule.linear.strong import strong_products
from chainrule.plan.shapes import Shapes
from chainrule.transforms.linearised import Linearised

Pair = tuple[int, int]
Edges = dict[Pair, LinearMap]

# Graphs with more vertices than this, or maps of more entries, are left to sweeps.
MOST_VERTICES, MOST_ENTRIES = 64, 200_000


def normal(graph: Linearised) -> Edges | None:
    """Every edge as an Einsum or as Entries, parallel ones added up; None where some map is neither, or is too large."""
    if len(graph.types) > MOST_VERTICES or any(t.dtype.kind == "c" for t in graph.types):
        return None
    edges: Edges = {}
    for v, incoming in enumerate(graph.incoming):
        for s, m in incoming:
            made: LinearMap | None = as_einsum(m)
            if made is None:
                made = _small_entries(m)
            if made is None or not _add(edges, (s, v), made):
                return None
    return edges


def _small_entries(m: LinearMap) -> Entries | None:
    if max(prod(m.in_shape), prod(m.out_shape)) > MOST_ENTRIES:
        return None
    return as_entries(m)


def _add(edges: Edges, pair: Pair, m: LinearMap) -> bool:
    """Add a map to an edge; whether the result is still in normal form."""
    before = edges.get(pair)
    edges[pair] = made = m if before is None else algebra.add(before, m)
    return isinstance(made, Einsum) or (isinstance(made, Entries) and len(made.rows) <= MOST_ENTRIES)


def eliminate(edges: Edges, order: Sequence[int]) -> Edges | None:
    """The edges that are left when the vertices of an order are eliminated; None where a composition has no normal form."""
    left = dict(edges)
    for v in order:
        into = [(s, left.pop((s, t))) for s, t in list(left) if t == v]
        out = [(t, left.pop((s, t))) for s, t in list(left) if s == v]
        for s, inner in into:
            for t, outer in out:
                if not _add(left, (s, t), algebra.compose(outer, inner)):
                    return None
    return left


def jacobian(graph: Linearised, order: Sequence[int]) -> list[list[Array]] | None:
    """The Jacobian as blocks, a row an output and a column an input, by elimination in this order.

    None where a map has no normal form, as it can be with other indices than those that the order was found for.
    """
    with np.errstate(all="ignore"):
        edges = normal(graph)
        left = None if edges is None else eliminate(edges, order)
        return None if left is None else _blocks(graph, left)


def _blocks(graph: Linearised, left: Edges) -> list[list[Array]]:
    """The edges left from inputs to outputs, written out; an output may also be an input, or lie before another output."""
    rows = []
    for w, value in zip(graph.outputs, graph.values, strict=True):
        row = []
        for v in graph.inputs:
            kind = graph.types[v]
            m = None if w is None else left.get((v, w))
            if m is None:
                square = (
                    np.eye(kind.size, dtype=kind.dtype)
                    if v == w
                    else np.zeros((prod(np.shape(value)), kind.size), kind.dtype)
                )
                row.append(square.reshape(*np.shape(value), *kind.shape))
            else:
                row.append(algebra.to_dense(m))
        rows.append(row)
    return rows


# ---- the search


def search(graph: Linearised) -> tuple[list[int], int] | None:
    """The best of some greedy orders of the arrays between inputs and outputs, and its multiplications; None if there is none."""
    edges = normal(graph)
    ends = {*graph.inputs, *graph.roots}
    # With an output that is used further on, edges between outputs would be left.
    if edges is None or any(s in graph.roots for s, _ in edges):
        return None
    between = sorted({v for pair in edges for v in pair} - ends)
    found: list[tuple[int, list[int]]] = []
    for ordering in (_by_cost, _forward, _reverse):
        tried = _tried(graph, edges, between, ordering)
        if tried is not None:
            found.append(tried)
    if not found:
        return None
    count, order = min(found, key=lambda pair: pair[0])
    return order, count


Choice = Callable[[list[int], "_Prices", Edges], int]


class _Prices:
    """What composing two maps costs, each pair looked up once."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], tuple[float, LinearMap, LinearMap]] = {}

    def of(self, edges: Edges, v: int) -> float:
        """The cost of eliminating a vertex now."""
        into = [m for (_, t), m in edges.items() if t == v]
        out = [m for (s, _), m in edges.items() if s == v]
        return sum(self._pair(b, a) for a in into for b in out)

    def _pair(self, outer: LinearMap, inner: LinearMap) -> float:
        key = (id(outer), id(inner))
        if key not in self.known:
            trace = Shapes()
            made = algebra.compose(_emptied(outer, trace), _emptied(inner, trace))
            cost = trace.multiplications if isinstance(made, Einsum | Entries) else np.inf
            self.known[key] = (cost, outer, inner)  # the maps too, so that no other takes their place in memory
        return self.known[key][0]


def _by_cost(left: list[int], prices: _Prices, edges: Edges) -> int:
    return min(reversed(left), key=lambda v: prices.of(edges, v))


def _forward(left: list[int], prices: _Prices, edges: Edges) -> int:
    return left[0]


def _reverse(left: list[int], prices: _Prices, edges: Edges) -> int:
    return left[-1]


def _tried(graph: Linearised, edges: Edges, between: Sequence[int], choice: Choice) -> tuple[int, list[int]] | None:
    """Eliminate without values: the multiplications, writing out included, and the order."""
    trace, prices = Shapes(), _Prices()
    left, waiting, order = {pair: _emptied(m, trace) for pair, m in edges.items()}, list(between), []
    with strong_products():
        while waiting:
            v = choice(waiting, prices, left)
            waiting.remove(v)
            order.append(v)
            after = eliminate(left, [v])
            if after is None:
                return None
            left = after
        _blocks(graph, left)
    return trace.multiplications, order


def _emptied(m: LinearMap, trace: Shapes) -> LinearMap:
    """The map with coefficients that have no values."""
    if isinstance(m, Einsum):
        weights = None if m.weights is None else trace.array(ArrayType.of(m.weights))
        return Einsum(weights, m.own, m.inner, m.outer, m.extents, m.in_dtype, factor=m.factor, selects=m.selects)
    assert isinstance(m, Entries)
    values = None if m.values is None else trace.array(ArrayType.of(m.values))
    return Entries(m.rows, m.columns, values, m.in_shape, m.out_shape, m.in_dtype, selects=m.selects)

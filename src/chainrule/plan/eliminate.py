"""Vertex elimination on the scalars of a small function: the Jacobian as straight-line code in the planned order.

Every element of every array is a vertex, every entry of every local Jacobian an edge. Eliminating vertex v adds c[s, v] c[v, p] to
c[s, p] for all its successors s and predecessors p. The products are recorded as any others are, so the result is a program that is
compiled, batched and differentiated again; a product with +1 or -1 is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import ops
from chainrule.ir.types import Array
from chainrule.linear.algebra import to_dense
from chainrule.linear.forms import Entries, as_einsum, as_entries, times
from chainrule.transforms.linearised import Linearised

Pair = tuple[int, int]

# Graphs with more scalars or more edges than this are left to sweeps.
MOST_SCALARS, MOST_EDGES = 1_000, 5_000


@dataclass(frozen=True)
class Scalars:
    """A graph of scalars: edges with their values, +1.0 and -1.0 as Python's floats; `inputs` and `outputs` are flattened.

    Edges that select come from masks: their exact zeros win over whatever they multiply.
    """

    edges: dict[Pair, Any]
    selecting: set[Pair]
    inputs: list[int]
    outputs: list[int]

    @property
    def unit(self) -> list[Pair]:
        """The edges whose products are free."""
        return [pair for pair, value in self.edges.items() if type(value) is float]


def is_small(graph: Linearised) -> bool:
    """Whether a graph is worth expanding to scalars."""
    if sum(t.size for t in graph.types) > MOST_SCALARS or any(t.dtype.kind == "c" for t in graph.types):
        return False
    return sum(_entry_bound(m) for edges in graph.incoming for _, m in edges) <= MOST_EDGES


def _entry_bound(m: LinearMap) -> int:
    einsum = as_einsum(m)
    if einsum is not None:
        return prod(einsum.extents[a] for a in {*einsum.outer, *einsum.inner})
    return (
        max(prod(m.out_shape), prod(m.in_shape)) if as_entries(m) is not None else prod(m.out_shape) * prod(m.in_shape)
    )


def scalars(graph: Linearised) -> Scalars:
    """The graph of scalars; each element of an output gets a vertex of its own behind the one it copies."""
    start = np.concatenate([[0], np.cumsum([t.size for t in graph.types])]).tolist()
    edges: dict[Pair, Any] = {}
    selecting: set[Pair] = set()
    with np.errstate(all="ignore"):
        for v, incoming in enumerate(graph.incoming):
            for s, m in incoming:
                found = _entries(m)
                pairs = [
                    (start[s] + j, start[v] + i)
                    for i, j in zip(found.rows.tolist(), found.columns.tolist(), strict=True)
                ]
                for pair, value in zip(pairs, _values(m, found), strict=True):
                    _add(edges, pair, value)
                selecting.update(pairs if found.selects else ())
    inputs = [start[v] + i for v in graph.inputs for i in range(graph.types[v].size)]
    outputs, fresh = [], start[-1]
    for root, n in zip(graph.outputs, graph.output_sizes, strict=True):
        for i in range(n):
            if root is not None:
                edges[start[root] + i, fresh] = 1.0
            outputs.append(fresh)
            fresh += 1
    return Scalars(edges, selecting, inputs, outputs)


def _entries(m: LinearMap) -> Entries:
    found = as_entries(m)
    if found is not None:
        return found
    shape = (prod(m.out_shape), prod(m.in_shape))
    rows, columns = (p.ravel() for p in np.indices(shape))
    return Entries(rows, columns, ops.reshape(to_dense(m), shape=(rows.size,)), m.in_shape, m.out_shape, m.in_dtype)


def _values(m: LinearMap, found: Entries) -> list[Any]:
    """The values of a map's entries, one by one."""
    sign = _sign(m, found)
    return [ops.slice(found.values, key=(e,)) if sign is None else sign for e in range(len(found.rows))]


def _sign(m: LinearMap, found: Entries) -> float | None:
    """+1.0 or -1.0 where that is what all entries are."""
    if found.values is None:
        return 1.0
    einsum = as_einsum(m)
    if einsum is not None and einsum.weights is None and abs(einsum.factor) == 1:
        return float(einsum.factor)
    return None


def _add(edges: dict[Pair, Any], pair: Pair, value: Any) -> None:
    before = edges.get(pair)
    if before is not None:
        value = (np.float64(before) if type(before) is float else before) + value
    edges[pair] = value


def search(small: Scalars, effort: str) -> tuple[list[int], int]:
    """An order for a graph of scalars, and its multiplications."""
    from chainrule.plan.elimination import elimination_order  # loads the native search at first use

    return elimination_order(
        list(small.edges),
        small.inputs,
        small.outputs,
        unit=small.unit,
        effort="thorough" if effort == "thorough" else "fast",
    )


def eliminate(small: Scalars, order: Sequence[int]) -> dict[Pair, Any]:
    """The edges from inputs to outputs that are left when all between are eliminated: in this order, then what it does not name.

    An order may come from a plan for other indices, by which other scalars were dead.
    """
    edges, selecting = dict(small.edges), set(small.selecting)
    known = {*order, *small.inputs, *small.outputs}
    order = [*order, *sorted({v for pair in edges for v in pair} - known, reverse=True)]
    tails: dict[int, dict[int, None]] = {}
    heads: dict[int, dict[int, None]] = {}
    for s, d in edges:
        heads.setdefault(s, {})[d] = None
        tails.setdefault(d, {})[s] = None
    with np.errstate(all="ignore"):
        for v in order:
            before, after = list(tails.pop(v, ())), list(heads.pop(v, ()))
            into = {p: edges.pop((p, v)) for p in before}
            out = {s: edges.pop((v, s)) for s in after}
            for p in before:
                del heads[p][v]
            for s in after:
                del tails[s][v]
            for p in before:
                for s in after:
                    selects = (p, v) in selecting or (v, s) in selecting
                    selecting.update([(p, s)] if selects else ())
                    _add(edges, (p, s), _product(out[s], into[p], selects=selects))
                    heads[p][s] = None
                    tails[s][p] = None
    return edges


def _product(a: Any, b: Any, *, selects: bool) -> Any:
    """a * b; a factor of +1 or -1 takes no multiplication."""
    if type(b) is float:
        a, b = b, a
    if type(a) is float:
        if type(b) is float:
            return a * b
        return b if a == 1.0 else ops.negative(b)
    return times(strict=True, selects=selects)(a, b)


def jacobian(graph: Linearised, order: Sequence[int]) -> Array:
    """The matrix of all outputs by all inputs, by elimination in this order."""
    small = scalars(graph)
    left = eliminate(small, order)
    dtype = np.result_type(*(graph.types[v].dtype for v in graph.inputs), *(v.dtype for v in graph.values))
    if not small.inputs or not small.outputs:
        return np.zeros((len(small.outputs), len(small.inputs)), dtype)
    zero = np.zeros((1, 1), dtype)
    rows = [ops.concatenate(*(_cell(left.get((i, j)), zero) for i in small.inputs), axis=1) for j in small.outputs]
    return ops.concatenate(*rows, axis=0)


def _cell(value: Any, zero: Array) -> Array:
    if value is None:
        return zero
    return np.full((1, 1), value, zero.dtype) if type(value) is float else ops.reshape(value, shape=(1, 1))

"""The orders in which a Jacobian can be accumulated, and what each costs on a given graph.

Everything is counted on the graph of local Jacobians (`transforms.linearised`), so nothing is run to find it out: the
multiplications are exact, bytes and additions are those of the arrays that the sweeps touch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Any, Literal

import numpy as np

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.types import ArrayType
from chainrule.linear import Contract, SumOver, WeightedSum
from chainrule.linear.forms import Einsum, as_einsum
from chainrule.plan import eliminate, vertices
from chainrule.plan.chain import Bracket, ChainMap, bracket_chain
from chainrule.plan.machine import Machine
from chainrule.plan.shapes import Shapes
from chainrule.transforms.compress import Compression
from chainrule.transforms.direct import Direct
from chainrule.transforms.linearised import Linearised

Kind = Literal["forward", "reverse", "compressed", "direct", "chain", "vertices", "elimination"]

_ITEM = 8
# Chains are bracketed over at most so many cuts, the narrowest.
_MOST_CUTS = 96


@dataclass(frozen=True)
class Order:
    """One way to accumulate a Jacobian, and what it takes.

    `peak` counts the arrays of one batch of sweeps and the result. `chunk` is how many sweeps go in one batch, None for all.
    For a chain, `cuts` are the vertices that all paths go through, and `bracket` is how the maps between them are multiplied; for
    an elimination, `elimination` is the order of the vertices: arrays ("vertices") or scalars ("elimination").
    """

    kind: Kind
    sweeps: int
    multiplications: int
    additions: int
    moved: int
    seconds: float
    peak: int
    colours: int | None = None
    colouring: str | None = None
    chunk: int | None = None
    cuts: tuple[int, ...] = ()
    bracket: Bracket | None = None
    elimination: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The order in a few words."""
        if self.kind == "chain" and self.bracket is not None:
            text = str(self.bracket)
            return f"chain {text}" if len(text) <= 48 else f"chain of {len(self.cuts) + 1} maps"
        return self.kind if self.colouring is None else f"{self.kind}, {self.colouring}"


@dataclass(frozen=True)
class Work:
    """What one sweep takes, over some part of a graph; `width` is the most elements of tangents alive at once."""

    calls: int = 0
    multiplications: int = 0
    products: int = 0
    additions: int = 0
    elements: int = 0
    coefficients: int = 0
    width: int = 0


def additions(m: LinearMap) -> int:
    """Additions of one application."""
    if isinstance(m, Contract | Einsum):
        return max(0, m.multiplications() - prod(m.out_shape))
    if isinstance(m, SumOver | WeightedSum):
        return prod(m.in_shape) - prod(m.out_shape)
    return 0


def work(graph: Linearised, sources: Sequence[int], sinks: Sequence[int]) -> Work:
    """What one sweep takes over the paths from sources to sinks."""
    calls = multiplications = products = added = elements = coefficients = 0
    steps = graph.between(sources, sinks)
    for v, edges in steps:
        size = graph.types[v].size
        added += max(0, len(edges) - 1) * size
        for s, m in edges:
            count = m.multiplications()
            calls += 1
            multiplications += count
            if isinstance(m, Contract):
                products += count
                coefficients += prod(m.other.shape)
            elif count:
                coefficients += size
            added += additions(m)
            elements += size + graph.types[s].size
    return Work(calls, multiplications, products, added, elements, coefficients, _width(graph, steps, sinks))


def _width(graph: Linearised, steps: Sequence[tuple[int, list[tuple[int, LinearMap]]]], sinks: Sequence[int]) -> int:
    last = {s: i for i, (_, edges) in enumerate(steps) for s, _ in edges}
    for v in sinks:
        last[v] = len(steps)
    ends: dict[int, int] = {}
    live = most = 0
    for i, (v, _) in enumerate(steps):
        live += graph.types[v].size
        ends[last.get(v, i)] = ends.get(last.get(v, i), 0) + graph.types[v].size
        most = max(most, live)
        live -= ends.pop(i, 0)
    return most


class Costs:
    """Prices work on a machine, in chunks that keep within a memory limit."""

    def __init__(self, machine: Machine, memory: int | None, held: int) -> None:
        self.machine, self.memory, self.held = machine, memory, held

    def chunk(self, one: Work, sweeps: int, result: int) -> int | None:
        """Sweeps in a batch; None for all at once. Temporaries are as large as what they are made of."""
        if self.memory is None:
            return None
        room = self.memory - self.held - 2 * result
        fits = max(1, room // max(1, 3 * _ITEM * one.width))
        return None if fits >= sweeps else int(fits)

    def order(self, kind: Kind, parts: Sequence[tuple[int, Work]], result: int, **rest: Any) -> Order:
        """An order of some batches of sweeps: pairs of their number and the work of one."""
        chunk = min((c for n, w in parts if (c := self.chunk(w, n, result)) is not None), default=None)
        seconds, moved, peak = 0.0, 0, 0
        for n, w in parts:
            batches = -(-n // chunk) if chunk else min(n, 1)
            bytes_ = _ITEM * (n * w.elements + batches * w.coefficients)
            seconds += self.machine.seconds(batches * w.calls, bytes_, n * w.products)
            moved += bytes_
            peak = max(peak, 3 * _ITEM * w.width * min(n, chunk or n))
        return Order(
            kind,
            sweeps=sum(n for n, _ in parts),
            multiplications=sum(n * w.multiplications for n, w in parts),
            additions=sum(n * w.additions for n, w in parts),
            moved=moved,
            seconds=seconds + self.machine.byte * 2 * result,
            peak=peak + 2 * result + self.held,
            chunk=chunk,
            **rest,
        )


def held_bytes(graph: Linearised) -> int:
    """Bytes of the coefficients that a graph holds, about: an array for each map that multiplies."""
    return _ITEM * work(graph, graph.inputs, graph.roots).coefficients


def pure(graph: Linearised, costs: Costs) -> list[Order]:
    """Forward and reverse mode: a batch of sweeps for each input, and for each output."""
    result = _ITEM * sum(graph.input_sizes) * sum(graph.output_sizes)
    forward = [(graph.types[v].size, work(graph, [v], graph.roots)) for v in graph.inputs]
    seen = [(v, n) for v, n in zip(graph.outputs, graph.output_sizes, strict=True) if v is not None]
    reverse = [(n, work(graph, graph.inputs, [v])) for v, n in seen]
    return [costs.order("forward", forward, result), costs.order("reverse", reverse, result)]


def compressed(graph: Linearised, costs: Costs, compression: Compression, *, sparse: bool) -> Order:
    """Compressed sweeps by a colouring of the pattern, whose result is sparse, or dense with the entries put in place."""
    colouring = compression.colouring
    parts = (colouring.column_colours, colouring.row_colours)
    order = _in_colours(graph, costs, parts, compression.pattern.nnz, sparse=sparse)
    substituted = len(compression.steps[0]) if compression.steps else 0
    return replace(order, colouring=colouring.kind, additions=order.additions + substituted)


def least_compressed(graph: Linearised, costs: Costs, entries: int, *, sparse: bool) -> Order:
    """The least that compressed sweeps can take for so many entries: no sweep gives more than an output or an input has."""
    longest = max(1, sum(graph.input_sizes), sum(graph.output_sizes))
    return _in_colours(graph, costs, (-(-entries // longest),), entries, sparse=sparse)


def _in_colours(graph: Linearised, costs: Costs, sweeps: Sequence[int], entries: int, *, sparse: bool) -> Order:
    result = _ITEM * (2 * entries if sparse else sum(graph.input_sizes) * sum(graph.output_sizes))
    one = work(graph, graph.inputs, graph.roots)
    return costs.order("compressed", [(n, one) for n in sweeps if n], result, colours=sum(sweeps))


def directly(graph: Linearised, costs: Costs, direct: Direct, *, sparse: bool) -> Order:
    """Each entry computed by itself, by structured maps composed."""
    trace = Shapes()
    direct.values(graph, lambda x: trace.array(ArrayType.of(x)))
    entries = len(direct.layout.indices)
    result = _ITEM * (2 * entries if sparse else sum(graph.input_sizes) * sum(graph.output_sizes))
    moved = 3 * _ITEM * trace.elements
    return Order(
        "direct",
        sweeps=0,
        multiplications=trace.multiplications,
        additions=trace.additions,
        moved=moved,
        seconds=costs.machine.seconds(trace.operations, moved, 0) + costs.machine.byte * 2 * result,
        peak=_ITEM * trace.elements + 2 * result + costs.held,
    )


def of_vertices(graph: Linearised, costs: Costs) -> Order | None:
    """Elimination of whole arrays; None where the maps have no normal form, or are too many."""
    found = vertices.search(graph)
    if found is None:
        return None
    order, multiplications = found
    cells = sum(graph.input_sizes) * sum(graph.output_sizes)
    edges = sum(map(len, graph.incoming))
    moved = _ITEM * (3 * cells + sum(2 * t.size for t in graph.types)) + 2 * held_bytes(graph)
    return Order(
        "vertices",
        sweeps=0,
        multiplications=multiplications,
        additions=multiplications,
        moved=moved,
        # A composition takes several operations to line its labels up.
        seconds=costs.machine.seconds(6 * edges, moved, multiplications),
        peak=3 * _ITEM * cells + 2 * costs.held,
        elimination=tuple(order),
    )


def eliminated(graph: Linearised, costs: Costs, effort: str) -> Order | None:
    """Vertex elimination on the scalars of a small graph; None for a large one."""
    if not eliminate.is_small(graph):
        return None
    small = eliminate.scalars(graph)
    order, multiplications = eliminate.search(small, effort)
    cells = len(small.inputs) * len(small.outputs)
    count = multiplications + len(small.edges) + cells
    return Order(
        "elimination",
        sweeps=0,
        multiplications=multiplications,
        additions=multiplications,
        moved=3 * _ITEM * count,
        seconds=costs.machine.seconds(count, 3 * _ITEM * count, 0),
        peak=_ITEM * (len(small.edges) + 2 * cells) + costs.held,
        elimination=tuple(order),
    )


# ---- chains


def cuts(graph: Linearised) -> list[int]:
    """Intermediate vertices that every path from the inputs to the outputs goes through, ascending."""
    steps = graph.between(graph.inputs, graph.roots)
    reach: dict[int, int] = {}
    for v, edges in steps:
        for s, _ in edges:
            reach[s] = v
    roots = set(graph.roots)
    far, found = max(graph.inputs, default=0), []
    for v, _ in steps:
        if far <= v and v not in graph.inputs and v not in roots:
            found.append(v)
        far = max(far, reach.get(v, v)) if v not in roots else len(graph.types)
    return found


def _narrowest(graph: Linearised, found: Sequence[int]) -> tuple[int, ...]:
    """Cuts worth a bracket: of two in a row of one size the first, and of many the narrowest."""
    kept = [
        v
        for i, v in enumerate(found)
        if i == 0 or graph.types[v].size != graph.types[found[i - 1]].size or _multiplies(graph, v)
    ]
    if len(kept) > _MOST_CUTS:
        kept = sorted(sorted(kept, key=lambda v: (graph.types[v].size, v))[:_MOST_CUTS])
    return tuple(kept)


def _multiplies(graph: Linearised, v: int) -> bool:
    return any(isinstance(m, Contract) for _, m in (*graph.incoming[v], *graph.outgoing[v]))


def segments(graph: Linearised, at: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The maps between cuts: pairs of source and sink vertices, innermost first."""
    ends = [list(graph.inputs), *([v] for v in at), list(graph.roots)]
    return list(pairwise(ends))


def known_map(graph: Linearised, sources: Sequence[int], sinks: Sequence[int]) -> Einsum | None:
    """The one map of a segment whose Jacobian is at hand as a full array; None where there is none."""
    if len(sources) != 1 or len(sinks) != 1:
        return None
    edges = graph.incoming[sinks[0]]
    if len(edges) != 1 or edges[0][0] != sources[0]:
        return None
    m = as_einsum(edges[0][1])
    if m is None or m.weights is None or set(m.inner) & set(m.outer) or len(m.own) != len(m.inner) + len(m.outer):
        return None
    return m if m.factor == 1.0 else None


def chain(graph: Linearised, costs: Costs) -> Order | None:
    """The cheapest bracketing of the chain of maps between the cuts; None where there are no cuts, or for complex values."""
    at = _narrowest(graph, cuts(graph))
    if not at or any(t.dtype.kind == "c" for t in graph.types):
        return None
    parts = segments(graph, at)
    works = [work(graph, sources, sinks) for sources, sinks in parts]

    def size(vertices: Sequence[int]) -> int:
        return sum(graph.types[v].size for v in vertices)

    maps = [
        ChainMap(
            size(sources),
            size(sinks),
            float(w.multiplications),
            jacobian=0.0 if known_map(graph, sources, sinks) is not None else np.inf,
        )
        for (sources, sinks), w in zip(parts, works, strict=True)
    ]
    bracket = bracket_chain(maps).bracket
    return _bracketed(costs, maps, works, bracket, at)


def _bracketed(
    costs: Costs, maps: Sequence[ChainMap], works: Sequence[Work], bracket: Bracket, at: tuple[int, ...]
) -> Order:
    """The cost of a bracketing, from its sweeps and its matrix products."""
    batches: list[tuple[int, Work]] = []
    products, moved, largest = 0, 0, 0
    for b in bracket:
        m, n = maps[b.last].outputs, maps[b.first].inputs
        largest = max(largest, _ITEM * m * n)
        if b.how == "multiply":
            k = maps[b.split].outputs
            products += m * k * n
            moved += _ITEM * (m * k + k * n + m * n)
        elif b.how != "known":
            batches.extend(_swept(b, maps, works))
    order = costs.order("chain", batches, 2 * largest, cuts=at, bracket=bracket)
    return replace(
        order,
        multiplications=order.multiplications + products,
        additions=order.additions + products,
        moved=order.moved + moved,
        seconds=order.seconds + costs.machine.seconds(1, moved, products),
    )


def _swept(b: Bracket, maps: Sequence[ChainMap], works: Sequence[Work]) -> list[tuple[int, Work]]:
    if b.how == "tangent":
        first = b.first if b.first == b.last else b.split + 1
        return [(maps[b.first].inputs, works[i]) for i in range(first, b.last + 1)]
    last = b.last if b.first == b.last else b.split
    return [(maps[b.last].outputs, works[i]) for i in range(b.first, last + 1)]

"""A function linearised at a point: the graph of its local Jacobians, and sweeps over any part of it.

Vertices are the values through which derivatives flow, numbered so that every edge goes from a lower to a higher number; an edge
carries a linear map. The Jacobian of outputs by inputs is the sum over paths of the products of the maps along them, and every
order of accumulation starts from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import Elementary, has_nan
from chainrule.ir.types import Array, ArrayType
from chainrule.linear import Implicit
from chainrule.linear.maps import convert
from chainrule.linear.strong import mode, strong_products
from chainrule.trace.inlining import inlining
from chainrule.trace.tape import Node, Part
from chainrule.transforms import batch, reverse

Flat = reverse.Flat
Edge = tuple[int, LinearMap]


@dataclass(eq=False)
class Linearised:
    """The graph of local Jacobians of a function at a point.

    `incoming[v]` has the edges into vertex v: pairs (source, map). `outputs[j]` is the vertex of output j, None where it is
    constant; `values` are the outputs themselves. `carries` says whether some map is that of an operation that carries a rule or a
    program, which sweeps take jointly at less cost.
    """

    inputs: list[int]
    outputs: list[int | None]
    values: list[Array]
    types: list[ArrayType]
    incoming: list[list[Edge]]
    carries: bool = False

    @property
    def input_sizes(self) -> list[int]:
        """Elements of each input."""
        return [self.types[v].size for v in self.inputs]

    @property
    def output_sizes(self) -> list[int]:
        """Elements of each output."""
        return [prod(np.shape(v)) for v in self.values]

    @cached_property
    def outgoing(self) -> list[list[Edge]]:
        """For each vertex the edges out of it: pairs (sink, map)."""
        out: list[list[Edge]] = [[] for _ in self.types]
        for sink, edges in enumerate(self.incoming):
            for source, m in edges:
                out[source].append((sink, m))
        return out

    @cached_property
    def roots(self) -> list[int]:
        """The vertices of the outputs, each once."""
        return list(dict.fromkeys(v for v in self.outputs if v is not None))

    def between(self, sources: Sequence[int], sinks: Sequence[int]) -> list[tuple[int, list[Edge]]]:
        """Vertices on paths from sources to sinks, ascending, each with its edges that lie on such paths; sources have none."""
        start, reached = set(sources), set(sources)
        for v in range(min(start, default=0), len(self.types)):
            if v not in start and any(s in reached for s, _ in self.incoming[v]):
                reached.add(v)
        needed: set[int] = set()
        steps: list[tuple[int, list[Edge]]] = []
        wanted = set(sinks)
        for v in range(max(wanted, default=-1), -1, -1):
            if v in reached and (v in wanted or v in needed):
                edges = [] if v in start else [(s, m) for s, m in self.incoming[v] if s in reached]
                needed.update(s for s, _ in edges)
                steps.append((v, edges))
        return steps[::-1]


def linearise(f: Flat, leaves: Sequence[Array]) -> Linearised:
    """The graph of f at the leaves, without what no input reaches or no output needs."""
    with inlining():
        return of_recording(reverse.record(f, leaves))


def of_recording(recording: reverse.Recording) -> Linearised:
    """The graph of a recorded function."""
    tape, inputs, values, nodes = recording
    tape.operands.check()
    live = _live(tape.nodes, [n for n in nodes if n is not None])
    number: dict[Node, int] = {}
    graph = Linearised([], [], values, [], [])

    def vertex(out: Array) -> int:
        graph.types.append(ArrayType.of(out))
        graph.incoming.append([])
        return len(graph.types) - 1

    for node in inputs:
        number[node] = vertex(node.out)
    with np.errstate(all="ignore"):
        for node in live:
            whole, row = (node.whole, node.row) if isinstance(node, Part) else (node, 0)
            if isinstance(node, Part) or (node.primitive is not None and node.primitive.outputs == 1):
                v = number[node] = vertex(node.out)
                graph.incoming[v] = _edges(whole, row, number)
                graph.carries = graph.carries or not isinstance(whole.primitive, Elementary)
    graph.inputs = [number[n] for n in inputs]
    graph.outputs = [None if n is None else number[n] for n in nodes]
    return graph


def _live(nodes: Sequence[Node], roots: Sequence[Node]) -> list[Node]:
    needed = set(roots)
    kept = []
    for node in reversed(nodes):
        if node in needed:
            needed.update(p for p in node.parents if p is not None)
            kept.append(node)
    return kept[::-1]


def _edges(node: Node, row: int, number: Mapping[Node, int]) -> list[Edge]:
    primitive = node.primitive
    assert primitive is not None
    edges = []
    for k, parent in enumerate(node.parents):
        if parent is not None and parent in number:
            if isinstance(primitive, Elementary):
                m = primitive.partial(k, node.values, node.out, node.params, row)
            else:
                m = _carried(node, row, k)
            if m is not None:
                edges.append((number[parent], m))
    return edges


def _carried(node: Node, row: int, k: int) -> LinearMap:
    """The local Jacobian of an operation that carries a rule or a program, by its pushforward and its pullback."""
    primitive: Any = node.primitive
    several = primitive.outputs != 1
    outs = node.out if several else (node.out,)

    def apply(t: Array) -> Array:
        dots = [t if i == k else None for i in range(len(node.values))]
        found = primitive.pushforward(node.values, node.out, node.params, dots)
        out = found[row] if several else found
        return reverse.zeros_like(outs[row]) if out is None else out

    def adjoint(ct: Array) -> Array:
        cts: Any = tuple(ct if i == row else None for i in range(len(outs))) if several else ct
        wanted = [i == k for i in range(len(node.values))]
        out = primitive.pullback(node.values, node.out, node.params, cts, wanted)[k]
        return reverse.zeros_like(node.values[k]) if out is None else out

    return Implicit(apply, adjoint, node.values[k], outs[row])


# ---- sweeps


def push(graph: Linearised, seeds: Mapping[int, Array], wanted: Sequence[int]) -> list[Array | None]:
    """Tangents of the wanted vertices from those of others, by one forward sweep; None where there is none.

    Seeded vertices are taken as independent: what goes into them is left out.
    """
    steps = graph.between(list(seeds), wanted)
    uses: dict[int, int] = dict.fromkeys(wanted, 1)
    for _, edges in steps:
        for s, _m in edges:
            uses[s] = uses.get(s, 0) + 1
    tangents: dict[int, Array] = dict(seeds)
    for v, edges in steps:
        if not edges:
            continue
        total = None
        for s, m in edges:
            term = m.apply(tangents[s])
            total = term if total is None else total + term
            uses[s] -= 1
            if not uses[s]:
                del tangents[s]
        dtype = graph.types[v].dtype
        tangents[v] = total if total.dtype == dtype else convert(total, dtype)  # type: ignore[union-attr]
    return [tangents.get(v) for v in wanted]


def pull(graph: Linearised, seeds: Mapping[int, Array], wanted: Sequence[int]) -> list[Array | None]:
    """Cotangents of the wanted vertices from those of others, by one reverse sweep; None where there is none.

    Wanted vertices are taken as independent: what goes into them is left out.
    """
    cotangents: dict[int, Array] = dict(seeds)
    for v, edges in reversed(graph.between(wanted, list(seeds))):
        if not edges:
            continue
        ct = cotangents.pop(v)
        for s, m in edges:
            term = m.adjoint(ct)
            before = cotangents.get(s)
            cotangents[s] = term if before is None else before + term
    return [cotangents.get(v) for v in wanted]


Sweep = Callable[[Linearised, Mapping[int, Array], Sequence[int]], list[Array | None]]


def swept(graph: Linearised, sweep: Sweep, seeds: Mapping[int, Array], wanted: Sequence[int]) -> list[Array]:
    """Many sweeps at once: seeds have a leading axis, and so have the results; zeros where nothing depends on the seeds.

    Swept again with strong products where a NaN came out (see linear.strong).
    """
    size = int(next(iter(seeds.values())).shape[0])
    vertices = list(seeds)

    def one(ts: list[Array]) -> list[Array]:
        found = sweep(graph, dict(zip(vertices, ts, strict=True)), wanted)
        return [
            np.zeros(graph.types[v].shape, graph.types[v].dtype) if t is None else t
            for v, t in zip(wanted, found, strict=True)
        ]

    def run() -> list[Array]:
        return batch.vmap(one, list(seeds.values()), [0] * len(vertices), size)

    with np.errstate(all="ignore"):
        found = run()
        if sweep is pull and not mode.strict and any(has_nan(x) for x in found):
            with strong_products():
                found = run()
    return found


def multiplications(graph: Linearised, sources: Sequence[int], sinks: Sequence[int]) -> int:
    """Scalar multiplications of one sweep, forward or reverse, over the paths from sources to sinks."""
    return sum(m.multiplications() for _, edges in graph.between(sources, sinks) for _, m in edges)

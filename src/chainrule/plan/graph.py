"""Linearised computational graphs: checked, pruned, and replayed in the plainest way.

A vertex is a value, an edge src -> dst the partial d dst / d src, and the Jacobian of outputs by inputs is the sum over paths
of the products along them. Eliminating an intermediate vertex v replaces the paths through it by edges from each predecessor
to each successor [Griewank & Reese 1991]: |P| |S| products, of which those with a unit edge are free.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

At = Literal["front", "back"]


class GraphError(ValueError):
    """Edges, inputs and outputs that are not a linearised computational graph, or an order that is not one of its orders."""


@dataclass(frozen=True)
class Graph:
    """A checked graph; vertices are numbered 0, 1, .. in a topological order, and `names` has what the caller calls them."""

    names: tuple[Hashable, ...]
    successors: tuple[frozenset[int], ...]
    predecessors: tuple[frozenset[int], ...]
    unit: frozenset[tuple[int, int]]
    inputs: frozenset[int]
    outputs: frozenset[int]

    @property
    def intermediates(self) -> list[int]:
        """Vertices that an order eliminates: all but inputs and outputs, in topological order."""
        kept = self.inputs | self.outputs
        return [v for v in range(len(self.names)) if v not in kept]


def graph_of(
    edges: Iterable[tuple[Hashable, Hashable]],
    inputs: Iterable[Hashable],
    outputs: Iterable[Hashable],
    unit: Iterable[tuple[Hashable, Hashable]] = (),
) -> Graph:
    """Check a graph and number its vertices.

    Raises:
        GraphError: for a loop, a cycle, an edge given twice, an edge into an input, or a unit pair that is no edge.

    >>> graph_of([("x", "v"), ("v", "y")], ["x"], ["y"]).names
    ('x', 'v', 'y')
    """
    pairs = [(src, dst) for src, dst in edges]
    sources, sinks, free = dict.fromkeys(inputs), dict.fromkeys(outputs), {(src, dst) for src, dst in unit}
    _check_edges(pairs, sources, free)
    following: dict[Hashable, list[Hashable]] = {v: [] for v in sources}
    for src, dst in pairs:
        following.setdefault(src, []).append(dst)
        following.setdefault(dst, [])
    for v in sinks:
        following.setdefault(v, [])
    names = _topological(following)
    number = {name: i for i, name in enumerate(names)}
    successors: list[set[int]] = [set() for _ in names]
    predecessors: list[set[int]] = [set() for _ in names]
    for src, dst in pairs:
        successors[number[src]].add(number[dst])
        predecessors[number[dst]].add(number[src])
    return Graph(
        names=tuple(names),
        successors=tuple(map(frozenset, successors)),
        predecessors=tuple(map(frozenset, predecessors)),
        unit=frozenset((number[src], number[dst]) for src, dst in free),
        inputs=frozenset(number[v] for v in sources),
        outputs=frozenset(number[v] for v in sinks),
    )


def _check_edges(
    pairs: Sequence[tuple[Hashable, Hashable]],
    inputs: Collection[Hashable],
    unit: Collection[tuple[Hashable, Hashable]],
) -> None:
    seen = set(pairs)
    if len(seen) < len(pairs):
        twice = next(pair for i, pair in enumerate(pairs) if pair in pairs[:i])
        raise GraphError(f"edge {twice[0]!r} -> {twice[1]!r} is given twice; add parallel partials up to one edge")
    for src, dst in pairs:
        if src == dst:
            raise GraphError(f"vertex {src!r} has an edge to itself")
        if dst in inputs:
            raise GraphError(f"edge {src!r} -> {dst!r} goes into an input; inputs are independent")
    for src, dst in unit:
        if (src, dst) not in seen:
            raise GraphError(f"unit pair {src!r} -> {dst!r} is not an edge")


def _topological(following: Mapping[Hashable, Sequence[Hashable]]) -> list[Hashable]:
    """Order so that every edge goes forward [Kahn 1962], keeping the given order where the edges leave a choice."""
    waits = dict.fromkeys(following, 0)
    for heads in following.values():
        for v in heads:
            waits[v] += 1
    order = [v for v, count in waits.items() if count == 0]
    for v in order:
        for w in following[v]:
            waits[w] -= 1
            if waits[w] == 0:
                order.append(w)
    if len(order) < len(waits):
        stuck = next(v for v, count in waits.items() if count > 0)
        raise GraphError(f"the graph has a cycle through or before vertex {stuck!r}")
    return order


def reached(starts: Iterable[int], neighbours: Sequence[Collection[int]]) -> set[int]:
    """All vertices on paths from `starts`, themselves included.

    >>> sorted(reached([0], [[1], [2], [], [2]]))
    [0, 1, 2]
    """
    found = set(starts)
    stack = list(found)
    while stack:
        fresh = [w for w in neighbours[stack.pop()] if w not in found]
        found.update(fresh)
        stack.extend(fresh)
    return found


class Elimination:
    """A graph in the course of elimination, in sets: what the native loops are compared with."""

    def __init__(self, graph: Graph) -> None:
        self.successors = [set(s) for s in graph.successors]
        self.predecessors = [set(p) for p in graph.predecessors]
        self.unit = set(graph.unit)

    def cost(self, v: int) -> int:
        """Multiplications that eliminating v takes now."""
        heads = sum((v, j) not in self.unit for j in self.successors[v])
        tails = sum((i, v) not in self.unit for i in self.predecessors[v])
        return heads * tails

    def eliminate(self, v: int) -> list[tuple[int, int]]:
        """Replace the paths through v by edges; those that are new."""
        fills = self.join(v, self.predecessors[v], self.successors[v])
        self.remove(v)
        return fills

    def join(self, v: int, tails: Collection[int], heads: Collection[int]) -> list[tuple[int, int]]:
        """Add the paths through v from each of `tails` to each of `heads` to the edges; those that are new."""
        fills = []
        for i in sorted(tails):
            for j in sorted(heads):
                if j in self.successors[i]:
                    self.unit.discard((i, j))
                else:
                    fills.append((i, j))
                    self.successors[i].add(j)
                    self.predecessors[j].add(i)
                    if (i, v) in self.unit and (v, j) in self.unit:
                        self.unit.add((i, j))
        return fills

    def eliminate_edge(self, i: int, j: int, at: At) -> tuple[int, list[tuple[int, int]]]:
        """Replace the paths through i -> j, on to the successors of j (front) or back to the predecessors of i: the cost, and
        the edges that are new. A vertex left without successors or predecessors goes.
        """
        v, tails, heads = (j, {i}, set(self.successors[j])) if at == "front" else (i, set(self.predecessors[i]), {j})
        free = (i, j) in self.unit
        ways = [(a, v) if at == "back" else (v, b) for a in tails for b in heads]
        cost = 0 if free else sum(way not in self.unit for way in ways)
        fills = self.join(v, tails, heads)
        self.successors[i].discard(j)
        self.predecessors[j].discard(i)
        self.unit.discard((i, j))
        if not self.successors[v] or not self.predecessors[v]:
            self.remove(v)
        return cost, fills

    def remove(self, v: int) -> None:
        """Take v and its edges away."""
        for i in self.predecessors[v]:
            self.successors[i].discard(v)
            self.unit.discard((i, v))
        for j in self.successors[v]:
            self.predecessors[j].discard(v)
            self.unit.discard((v, j))
        self.predecessors[v], self.successors[v] = set(), set()


@dataclass(frozen=True)
class EdgeRemoval:
    """The elimination of one edge: its source is joined to all that follow `dst` (front), or all that precede `src` to `dst`."""

    src: Hashable
    dst: Hashable
    at: At


@dataclass(frozen=True)
class Step:
    """The elimination of one vertex, or of one edge at it: every product is c[i, vertex] * c[vertex, j] for one of
    `predecessors` and one of `successors`.
    """

    vertex: Hashable
    predecessors: tuple[Hashable, ...]
    successors: tuple[Hashable, ...]
    multiplications: int
    fills: tuple[tuple[Hashable, Hashable], ...]
    edge: EdgeRemoval | None = None


@dataclass(frozen=True)
class Replay:
    """What an elimination order does: its steps, their sum, and the edges that are left, those of the Jacobian.

    An output that has successors keeps its edges to them: `remaining` then has edges between outputs too, whose products are
    not counted (see `separate_outputs` for a graph in which they are).
    """

    multiplications: int
    steps: tuple[Step, ...]
    remaining: tuple[tuple[Hashable, Hashable], ...]

    @property
    def fills(self) -> int:
        """The number of edges that were made."""
        return sum(len(step.fills) for step in self.steps)


def replay(
    order: Iterable[Hashable],
    edges: Iterable[tuple[Hashable, Hashable]],
    inputs: Iterable[Hashable],
    outputs: Iterable[Hashable],
    *,
    unit: Iterable[tuple[Hashable, Hashable]] = (),
) -> Replay:
    """Follow an elimination order step by step: who is joined to whom, at what cost, with which new edges.

    The order may have `EdgeRemoval`s among its vertices.

    >>> done = replay(["v"], [("x", "v"), ("z", "v"), ("v", "y"), ("x", "y")], ["x", "z"], ["y"])
    >>> done.multiplications, done.fills, done.remaining
    (2, 1, (('x', 'y'), ('z', 'y')))
    """
    graph = graph_of(edges, inputs, outputs, unit)
    number = {name: v for v, name in enumerate(graph.names)}
    wanted, order = set(graph.intermediates), list(order)
    vertices = [name for name in order if not isinstance(name, EdgeRemoval)]
    if len(vertices) != len(wanted) or {number.get(name, -1) for name in vertices} != wanted:
        raise GraphError("an order names every vertex but inputs and outputs exactly once")
    state = Elimination(graph)
    steps = [
        _edge_step(graph, state, number, item)
        if isinstance(item, EdgeRemoval)
        else _vertex_step(graph, state, number[item])
        for item in order
    ]
    left = [(i, j) for i, heads in enumerate(state.successors) for j in sorted(heads)]
    return Replay(sum(step.multiplications for step in steps), tuple(steps), _pairs(graph, left))


def _vertex_step(graph: Graph, state: Elimination, v: int) -> Step:
    tails, heads = _named(graph, state.predecessors[v]), _named(graph, state.successors[v])
    cost = state.cost(v)
    return Step(graph.names[v], tails, heads, cost, _pairs(graph, state.eliminate(v)))


def _edge_step(graph: Graph, state: Elimination, number: Mapping[Hashable, int], edge: EdgeRemoval) -> Step:
    i, j = number.get(edge.src, -1), number.get(edge.dst, -1)
    v = j if edge.at == "front" else i
    if i < 0 or j not in state.successors[i] or v in graph.inputs | graph.outputs:
        raise GraphError(
            f"no edge {edge.src!r} -> {edge.dst!r} to eliminate at its {edge.at} at this point of the order"
        )
    tails, heads = ({i}, state.successors[v]) if edge.at == "front" else (state.predecessors[v], {j})
    named = _named(graph, tails), _named(graph, heads)
    cost, fills = state.eliminate_edge(i, j, edge.at)
    return Step(graph.names[v], *named, cost, _pairs(graph, fills), edge)


def _pairs(graph: Graph, pairs: Iterable[tuple[int, int]]) -> tuple[tuple[Hashable, Hashable], ...]:
    return tuple((graph.names[i], graph.names[j]) for i, j in pairs)


def _named(graph: Graph, vertices: Iterable[int]) -> tuple[Hashable, ...]:
    return tuple(graph.names[v] for v in sorted(vertices))


def separate_outputs(
    edges: Iterable[tuple[Hashable, Hashable]],
    outputs: Iterable[Hashable],
    unit: Iterable[tuple[Hashable, Hashable]] = (),
) -> tuple[list[tuple[Hashable, Hashable]], list[Hashable], list[tuple[Hashable, Hashable]]]:
    """Give each output that is also used further on a copy of its own: edges, outputs and unit pairs with that copy.

    Eliminating such an output then counts, as it must where the whole Jacobian is wanted.

    >>> separate_outputs([("x", "u"), ("u", "y")], ["u", "y"])
    ([('x', 'u'), ('u', 'y'), ('u', ('output', 'u'))], [('output', 'u'), 'y'], [('u', ('output', 'u'))])
    """
    edges, copied = list(edges), {}
    used = {src for src, _ in edges}
    for v in outputs:
        copied[v] = ("output", v) if v in used else v
    copies = [(v, copy) for v, copy in copied.items() if copy != v]
    return edges + copies, list(copied.values()), [*unit, *copies]

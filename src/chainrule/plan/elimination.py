"""The order in which to eliminate the vertices of a linearised computational graph with the fewest multiplications.

Finding the best order is NP-complete [Naumann 2008], so this searches: vertices without influence are pruned, those that only
rename another are contracted, a portfolio of greedy orders is tried, and the best of these is improved by simulated annealing.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from chainrule.plan import anneal as annealing
from chainrule.plan.bits import WORD, replay_costs
from chainrule.plan.graph import (
    Elimination,
    Graph,
    GraphError,
    Replay,
    Step,
    graph_of,
    reached,
    replay,
    separate_outputs,
)
from chainrule.plan.greedy import KEYS, greedy

__all__ = ["GraphError", "Replay", "Step", "elimination_order", "replay", "separate_outputs"]

Words = NDArray[np.int64]

# Sweeps of one annealing, moves tried at each place in a sweep, and annealings: these counts, not seconds, end the search on
# graphs of up to about 150 vertices, so that its result there depends on nothing but the seed.
_SWEEPS, _TRIES, _RUNS = 150, 6, 6
# Graphs of more vertices are large: the clock is looked at within a sweep, and steers the temperature.
_LARGE = 256
# The temperature is in multiplications. Hotter starts lose a good order, colder ends waste sweeps on nothing.
_HOT, _COLD = 1.5, 0.2
# Words of the undo stack; a move that needs more is not made.
_UNDO_WORDS = 1 << 23


def elimination_order(
    edges: Iterable[tuple[Hashable, Hashable]],
    inputs: Iterable[Hashable],
    outputs: Iterable[Hashable],
    *,
    unit: Iterable[tuple[Hashable, Hashable]] = (),
    effort: Literal["fast", "thorough"] = "thorough",
    seed: int = 0,
    seconds: float = 1.0,
) -> tuple[list[Any], int]:
    """Order the elimination of v by v so that the sum of |P(v)| |S(v)| is small: the order, and that sum.

    P and S are the predecessors and successors of v when its turn comes; products with a unit edge are not counted. Inputs and
    outputs are never eliminated; every other vertex is in the order once. The sum is never above that of forward or of reverse
    mode, the orders from inputs to outputs and back.

    Args:
        edges: pairs (src, dst), the partial d dst / d src; ids are anything hashable.
        inputs: vertices to differentiate with respect to.
        outputs: vertices to differentiate.
        unit: the edges whose products are free: copies, or all that are +1 or -1.
        effort: "fast" tries greedy orders only, in milliseconds; "thorough" goes on by annealing.
        seed: of the annealing; the same seed gives the same order, as long as the time limit is not what ends the search.
        seconds: time limit of the search, beside some tenths of a second for compiling it at its first use.

    Raises:
        GraphError: if this is no acyclic graph from inputs to outputs, with the edge that is wrong.

    Forward mode would take 2 multiplications for v and 2 for w, reverse mode 1 and 1:

    >>> elimination_order([("x", "v"), ("z", "v"), ("v", "w"), ("w", "y")], ["x", "z"], ["y"], effort="fast")
    (['w', 'v'], 3)
    """
    if effort not in ("fast", "thorough"):
        raise ValueError(f"effort is 'fast' or 'thorough', not {effort!r}")
    graph = graph_of(edges, inputs, outputs, unit)
    compile_loops(effort == "thorough")
    now = time.perf_counter()
    total, order = best_order(graph, effort == "thorough", seed, now, now + seconds)
    return [graph.names[v] for v in order], total


def compile_loops(thorough: bool) -> None:
    """Compile the native loops, once a process: the time limit is for the search."""
    replay_costs.compile()
    greedy.compile()
    if thorough:
        annealing.sweep.compile()


def best_order(graph: Graph, thorough: bool, seed: int, now: float, deadline: float) -> tuple[int, list[int]]:
    """The best order found of all vertices to eliminate, and its cost.

    The contracted graph is smaller, and searched first; but now and then a renaming vertex is better left for later, so the
    search goes on from there in the graph that has them all.
    """
    contracted = prune(graph)
    total, order = _search_in(contracted, thorough, seed, now + (deadline - now) * (0.6 if contracted.renamed else 1.0))
    if contracted.renamed:
        total, order = _search_in(prune(graph, contracting=False), thorough, seed, deadline, (total, order))
    return total, order


def _search_in(
    pruned: Pruned, thorough: bool, seed: int, deadline: float, start: tuple[int, list[int]] | None = None
) -> tuple[int, list[int]]:
    packed = Packed.of(pruned)
    if packed.n == 0:
        return 0, pruned.first
    best = portfolio(packed)[0]
    if start is not None and start[0] <= best[0]:
        best = start[0], pruned.numbered(start[1])
    if thorough and packed.n > 2 and best[0] > 0:
        best = search(packed, best, seed, deadline)
    return best[0], pruned.first + [pruned.searched[k] for k in best[1].tolist()]


@dataclass(frozen=True)
class Pruned:
    """What is left to search of a graph: `first` are the vertices that go first, for nothing, the last `renamed` of them since
    they only rename another.
    """

    first: list[int]
    renamed: int
    searched: list[int]
    state: Elimination
    inputs: list[int]
    outputs: list[int]

    @property
    def living(self) -> list[int]:
        """All vertices that are left, those to eliminate first: their places are their numbers in `Packed`."""
        return [*self.searched, *dict.fromkeys(self.inputs + self.outputs)]

    def numbered(self, order: list[int]) -> Words:
        """An order by the numbers of `Packed`."""
        place = {v: k for k, v in enumerate(self.searched)}
        return np.array([place[v] for v in order if v in place], np.int64)


def prune(graph: Graph, *, contracting: bool = True) -> Pruned:
    """Eliminate what costs nothing: vertices that no input reaches, that reach no output, or (`contracting`) only rename another.

    Dead vertices go last first, constant ones first first, so that none has products when its turn comes.
    """
    live = reached(graph.inputs, graph.successors) & reached(graph.outputs, graph.predecessors)
    useful = reached(graph.outputs, graph.predecessors)
    others = [v for v in graph.intermediates if v not in live]
    first = [v for v in reversed(others) if v not in useful] + [v for v in others if v in useful]
    state = Elimination(graph)
    for v in range(len(graph.names)):
        if v not in live:
            state.remove(v)
    rest = [v for v in graph.intermediates if v in live]
    renamed = contract(state, rest) if contracting else {}
    searched = [v for v in rest if v not in renamed]
    return Pruned(
        first + list(renamed), len(renamed), searched, state, sorted(graph.inputs & live), sorted(graph.outputs & live)
    )


def contract(state: Elimination, vertices: list[int]) -> dict[int, None]:
    """Eliminate vertices whose only predecessor or only successor is by a unit edge, until there is none; these, in order."""
    done: dict[int, None] = {}
    waiting = list(reversed(vertices))
    while waiting:
        v = waiting.pop()
        if v in done or not _renames(state, v):
            continue
        neighbours = (state.predecessors[v] | state.successors[v]).intersection(vertices)
        state.eliminate(v)
        done[v] = None
        waiting.extend(sorted(neighbours, reverse=True))
    return done


def _renames(state: Elimination, v: int) -> bool:
    tails, heads = state.predecessors[v], state.successors[v]
    by_tail = len(tails) == 1 and (next(iter(tails)), v) in state.unit
    return by_tail or (len(heads) == 1 and (v, next(iter(heads))) in state.unit)


@dataclass(frozen=True)
class Packed:
    """A pruned graph in words, see `bits`: vertices 0 .. n - 1 are to be eliminated, in topological order; `size` words."""

    n: int
    vertices: int
    words: int
    planes: int
    state: Words
    final: Words

    @classmethod
    def of(cls, pruned: Pruned) -> Packed:
        """Pack the rows of the living vertices."""
        living = pruned.living
        number = {v: i for i, v in enumerate(living)}
        words = -(-len(living) // WORD)
        planes = 2 if pruned.state.unit else 1
        state = np.zeros((len(living), 2, planes, words), np.int64)
        for v, i in number.items():
            for w in pruned.state.successors[v]:
                j = number[w]
                for plane in range(1 + ((v, w) in pruned.state.unit)):
                    state[i, 0, plane, j // WORD] |= 1 << (j % WORD)
                    state[j, 1, plane, i // WORD] |= 1 << (i % WORD)
        return cls(len(pruned.searched), len(living), words, planes, state.ravel(), _final_degrees(pruned))

    @property
    def half(self) -> int:
        """Words of the successors, or of the predecessors, of one vertex."""
        return self.planes * self.words

    def undo(self, eliminations: int) -> Words:
        """A stack that holds what this many eliminations overwrite, if memory allows."""
        one = self.vertices * (self.half + 1)
        return np.empty(one * max(2, min(eliminations, _UNDO_WORDS // one)), np.int64)

    def replay(self, order: Words) -> tuple[int, Words]:
        """The cost of an order, and of each of its steps."""
        costs = np.empty(self.n, np.int64)
        total = replay_costs(self.state.copy(), order, self.n, self.words, self.planes, self.undo(1), costs)
        return total, costs


def _final_degrees(pruned: Pruned) -> Words:
    """(inputs that reach v) (outputs that v reaches) for each vertex to eliminate, by bit sets as Python's integers."""
    from_inputs = {v: 1 << i for i, v in enumerate(pruned.inputs)}
    to_outputs = {v: 1 << i for i, v in enumerate(pruned.outputs)}
    successors, predecessors = pruned.state.successors, pruned.state.predecessors
    living = sorted(pruned.living)
    for v in living:
        for i in predecessors[v]:
            from_inputs[v] = from_inputs.get(v, 0) | from_inputs.get(i, 0)
    for v in reversed(living):
        for j in successors[v]:
            to_outputs[v] = to_outputs.get(v, 0) | to_outputs.get(j, 0)
    found = [from_inputs.get(v, 0).bit_count() * to_outputs.get(v, 0).bit_count() for v in pruned.searched]
    return np.array(found, np.int64)


Found = tuple[int, Words]


def portfolio(packed: Packed) -> list[Found]:
    """Forward, reverse and the greedy orders with their costs, cheapest first."""
    forward = np.arange(packed.n)
    found = [(packed.replay(order)[0], order) for order in (forward[::-1].copy(), forward)]
    undo, keys, changed = packed.undo(1), np.empty(packed.n, np.int64), np.empty(packed.words, np.int64)
    for _, markowitz, filling, relative in KEYS:
        for last in (0, 1):
            order, alive = np.empty(packed.n, np.int64), np.ones(packed.n, np.int64)
            total = greedy(
                packed.state.copy(), packed.n, packed.words, packed.planes, markowitz, filling, relative, last,
                packed.final, alive, keys, changed, undo, order,
            )  # fmt: skip
            found.append((total, order))
    return sorted(found, key=lambda pair: pair[0])


class Annealing:
    """The arrays of a simulated annealing of one graph, reused from run to run; see `anneal` for the method."""

    def __init__(self, packed: Packed, seed: int) -> None:
        self.packed = packed
        self.state = packed.state.copy()
        self.undo = packed.undo(packed.n)
        self.trial = np.empty(packed.n, np.int64)
        self.places = packed.n if packed.n <= _LARGE else max(4, _LARGE * _LARGE // packed.n)
        self.parts = -(-packed.n // self.places)
        self.logs = -np.log((np.arange(annealing.LOGS) + 0.5) / annealing.LOGS)
        self.control = np.zeros(annealing.CONTROLS, np.int64)
        self.control[annealing.RANDOM] = 1 + (seed * 2_654_435_761 + 97_531) % (2**32 - 1)
        self.control[annealing.ROOM] = len(self.undo) - packed.vertices * (packed.half + 1)
        self.control[annealing.REACH] = max(1, (packed.n - 1).bit_length())

    def run(self, start: Found, deadline: float) -> Found:
        """Anneal from `start`; the best order seen.

        The temperature falls with the sweeps or, where the graph is large and time is short, with the time.
        """
        packed, control = self.packed, self.control
        total, costs = packed.replay(start[1])
        order, best = start[1].copy(), start[1].copy()
        control[annealing.TOTAL] = control[annealing.BEST] = total
        began, share = time.perf_counter(), 0.0
        for step in range(_SWEEPS * self.parts):
            part = step % self.parts
            annealing.sweep(
                packed.state, self.state, len(packed.state), packed.words, packed.planes, order, costs, self.trial,
                packed.n, part * self.places, (part + 1) * self.places, _TRIES, self.undo, control, self.logs, best,
                _HOT * (_COLD / _HOT) ** share,
            )  # fmt: skip
            share, now = (step + 1) / (_SWEEPS * self.parts), time.perf_counter()
            if packed.n > _LARGE:
                share = max(share, (now - began) / max(deadline - began, 1e-9))
            if share >= 1 or now > deadline:
                break
        return int(control[annealing.BEST]), best


def search(packed: Packed, best: Found, seed: int, deadline: float) -> Found:
    """Anneal from the best of the greedy orders and from reverse, then again from the best found."""
    reverse = (0, np.arange(packed.n)[::-1].copy())
    work = Annealing(packed, seed)
    for run in range(_RUNS):
        found = work.run(reverse if run == 1 else best, deadline)
        if found[0] < best[0]:
            best = found
        if time.perf_counter() > deadline:
            break
    return best

"""Elimination of edges, which may need fewer multiplications than any order of vertices.

Eliminating all edges into a vertex in front is eliminating the vertex; but some of them may be eliminated early and the others
late [Naumann 2004]. On the graphs of ordinary programs this seldom gains, and then little: it is there for kernels that run often
enough to be worth the search. The search starts from the best order of vertices and anneals, inserting, dropping and moving edges.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import numpy as np

from chainrule.plan import anneal as annealing
from chainrule.plan import edge_loops as loops
from chainrule.plan.elimination import Annealing, Found, Packed, Pruned, best_order, compile_loops, prune
from chainrule.plan.graph import EdgeRemoval, Graph, graph_of

# As in `elimination`, counts rather than seconds end the search on small graphs.
_SWEEPS, _TRIES = 150, 4
_HOT, _COLD = 0.6, 0.15


def edge_elimination_order(
    edges: Iterable[tuple[Hashable, Hashable]],
    inputs: Iterable[Hashable],
    outputs: Iterable[Hashable],
    *,
    unit: Iterable[tuple[Hashable, Hashable]] = (),
    seed: int = 0,
    seconds: float = 1.0,
) -> tuple[list[Any], int]:
    """A list of vertices and `EdgeRemoval`s that leaves the Jacobian, and its multiplications, never more than those of
    `elimination_order` at the same seed and with time enough; `replay` follows it. Arguments as there.

    >>> edge_elimination_order([("x", "v"), ("v", "y")], ["x"], ["y"])
    (['v'], 1)
    """
    graph = graph_of(edges, inputs, outputs, unit)
    compile_loops(thorough=True)
    loops.anneal_tokens.compile()
    now = time.perf_counter()
    total, order = best_order(graph, True, seed, now, now + seconds / 2)
    pruned = prune(graph, contracting=False)
    first = [graph.names[v] for v in pruned.first]
    if not pruned.searched:
        return first, 0
    total, tokens = anneal_edges(Packed.of(pruned), (total, pruned.numbered(order)), seed, now + seconds)
    return [*first, *_steps(graph, pruned, pruned.living, tokens)], total


def anneal_edges(packed: Packed, best: Found, seed: int, deadline: float) -> tuple[int, list[int]]:
    """Tokens, see `edge_loops`, of fewest multiplications, starting from an order of the vertices."""
    vertices, most = packed.vertices, 2 * packed.n
    work, control = Annealing(packed, seed), np.zeros(loops.CONTROLS, np.int64)
    control[: annealing.CONTROLS] = work.control
    control[[annealing.TOTAL, annealing.BEST]] = best[0]
    control[[loops.LENGTH, loops.BEST_LENGTH]] = packed.n
    control[loops.MOST] = most
    # An edge may take up two rows more than a vertex of the same degree.
    control[annealing.ROOM] -= 2 * (packed.half + 1)
    tokens, trial = np.zeros(most + 1, np.int64), np.zeros(most + 1, np.int64)
    tokens[: packed.n] = best[1] * vertices + best[1]
    found = tokens.copy()
    for sweep in range(_SWEEPS):
        loops.anneal_tokens(
            packed.state, work.state, len(packed.state), vertices, packed.words, packed.planes, tokens, trial, _TRIES,
            work.undo, control, work.logs, found, _HOT * (_COLD / _HOT) ** (sweep / _SWEEPS),
        )  # fmt: skip
        if time.perf_counter() > deadline:
            break
    return int(control[annealing.BEST]), found[: control[loops.BEST_LENGTH]].tolist()


def _steps(graph: Graph, pruned: Pruned, living: list[int], tokens: list[int]) -> Iterator[Any]:
    """Tokens as vertices and edge removals, by the caller's names; those that find no edge are left out."""
    state, names = pruned.state, graph.names
    for token in tokens:
        v, u = (living[k] for k in divmod(token, len(living)))
        if u == v:
            state.eliminate(v)
            yield names[v]
        elif u in state.predecessors[v]:
            state.eliminate_edge(u, v, "front")
            yield EdgeRemoval(names[u], names[v], "front")
        elif u in state.successors[v]:
            state.eliminate_edge(v, u, "back")
            yield EdgeRemoval(names[v], names[u], "back")

"""Eliminating edges: still the Jacobian, never dearer than vertices, and now and then cheaper."""

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest

from chainrule.plan import anneal, edge_loops
from chainrule.plan.edge_elimination import edge_elimination_order
from chainrule.plan.elimination import Annealing, Packed, elimination_order, prune
from chainrule.plan.graph import EdgeRemoval, GraphError, graph_of, replay

# A graph whose best order of vertices takes 26 multiplications: random search found that edges take 25.
EDGES = [
    (0, 12), (1, 5), (1, 6), (1, 7), (1, 8), (1, 15), (2, 5), (2, 7), (2, 9), (2, 10), (2, 12), (3, 12), (4, 5), (4, 14),
    (5, 7), (5, 10), (6, 13), (6, 15), (7, 8), (8, 15), (9, 13), (10, 11), (10, 13), (10, 14), (10, 15),
]  # fmt: skip
INPUTS, OUTPUTS = list(range(5)), list(range(11, 16))


def random_graph(seed, n=8, unit=0.3):
    r = random.Random(seed)
    edges = sorted({(r.randrange(min(v, 4 + n)), v) for v in range(4, 8 + n) for _ in range(r.randint(1, 4))})
    return edges, list(range(4)), list(range(4 + n, 8 + n)), [e for e in edges if r.random() < unit]


def jacobian_by_steps(steps, edges, values):
    """Carry out the steps of a replay in exact arithmetic: the edges that are left, and the products made."""
    partials, products = dict(zip(edges, values, strict=True)), 0
    for step in steps:
        v = step.vertex
        for i, j in itertools.product(step.predecessors, step.successors):
            products += 1
            partials[i, j] = partials.get((i, j), Fraction(0)) + partials[i, v] * partials[v, j]
        gone = {(step.edge.src, step.edge.dst)} if step.edge else {e for e in partials if v in e}
        partials = {e: c for e, c in partials.items() if e not in gone}
    return partials, products


@pytest.mark.parametrize("seed", range(15))
def test_edge_elimination_gives_the_same_jacobian(seed):
    edges, inputs, outputs, _ = random_graph(seed)
    values = [Fraction(random.Random(i).randint(1, 9)) for i in range(len(edges))]
    order, total = edge_elimination_order(edges, inputs, outputs, seed=seed)
    plain = sorted({v for e in edges for v in e} - {*inputs, *outputs})
    found, products = jacobian_by_steps(replay(order, edges, inputs, outputs).steps, edges, values)
    expected, _ = jacobian_by_steps(replay(plain, edges, inputs, outputs).steps, edges, values)
    assert {e: c for e, c in found.items() if e[0] in inputs} == {e: c for e, c in expected.items() if e[0] in inputs}
    assert products == total


@pytest.mark.parametrize("seed", range(15))
def test_edge_elimination_counts_as_its_replay_and_no_more_than_vertices(seed):
    edges, inputs, outputs, unit = random_graph(seed, n=10)
    order, total = edge_elimination_order(edges, inputs, outputs, unit=unit)
    assert replay(order, edges, inputs, outputs, unit=unit).multiplications == total
    assert total <= elimination_order(edges, inputs, outputs, unit=unit)[1]


def test_edges_may_be_cheaper_than_any_order_of_vertices():
    graph = EDGES, INPUTS, OUTPUTS
    least = min(replay(order, *graph).multiplications for order in itertools.permutations(range(5, 11)))
    order, total = edge_elimination_order(*graph, seconds=30)
    assert (least, total) == (26, 25)
    assert any(isinstance(step, EdgeRemoval) for step in order)


def test_an_edge_that_is_not_there_cannot_be_eliminated():
    edges = [("x", "v"), ("v", "y")]
    for wrong in (EdgeRemoval("x", "y", "front"), EdgeRemoval("x", "v", "back"), EdgeRemoval("v", "y", "front")):
        with pytest.raises(GraphError, match="no edge"):
            replay([wrong, "v"], edges, ["x"], ["y"])


def test_a_graph_may_have_nothing_to_eliminate():
    assert edge_elimination_order([("x", "y")], ["x"], ["y"]) == ([], 0)


@pytest.mark.parametrize("unit", [0.0, 0.4])
def test_native_edge_elimination_equals_interpreted_and_undoes_itself(unit):
    edges, inputs, outputs, free = random_graph(3, n=30, unit=unit)
    packed = Packed.of(prune(graph_of(edges, inputs, outputs, free)))
    work, n = Annealing(packed, 1), packed.vertices
    tokens = np.concatenate([np.arange(packed.n) * n + v for v in range(n)])
    np.random.default_rng(0).shuffle(tokens)
    rest = (tokens, 0, len(tokens), 1e18, n, packed.words, packed.planes)
    undo = np.zeros(len(packed.undo(packed.n)) + 100 * packed.vertices * packed.half, np.int64)
    state, plain = packed.state.copy(), packed.state.tolist()
    total = edge_loops.rest_cost(state, *rest, undo, len(undo))
    assert edge_loops.rest_cost.python(plain, tokens.tolist(), *rest[1:], undo.tolist(), len(undo)) == total
    assert state.tolist() == plain == packed.state.tolist()

    size, most = len(packed.state), 2 * packed.n
    control = np.zeros(edge_loops.CONTROLS, np.int64)
    control[: anneal.CONTROLS] = work.control
    start = np.arange(packed.n)[::-1].copy()
    control[[anneal.TOTAL, anneal.BEST]] = packed.replay(start)[0]
    control[[edge_loops.LENGTH, edge_loops.MOST]] = packed.n, most
    begun = np.zeros(most + 1, np.int64)
    begun[: packed.n] = start * (n + 1)

    def swept(sweep, kind):
        state, walked, trial, undo, moved, best = (
            kind(a) for a in (packed.state, begun, begun, work.undo, control, begun)
        )
        place = (size, n, packed.words, packed.planes)
        sweep(kind(packed.state), state, *place, walked, trial, 2, undo, moved, kind(work.logs), best, 1.0)
        return [np.asarray(a).tolist() for a in (state, walked, moved, best)]

    assert swept(edge_loops.anneal_tokens, np.array) == swept(edge_loops.anneal_tokens.python, np.ndarray.tolist)

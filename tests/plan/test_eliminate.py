"""Elimination in the planned order gives the Jacobian, with exactly the multiplications predicted, and as code like any other."""

import itertools

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import DifferentiationError
from chainrule.ir.primitive import ops
from chainrule.plan import eliminate, vertices
from chainrule.transforms.linearised import linearise

X = np.random.default_rng(0).uniform(0.3, 1.2, 6)
M = np.random.default_rng(1).normal(size=(4, 6))


def arm(q):
    x, y, z = 0.0, 0.0, 1.0
    for k in range(6):
        c, s = np.cos(q[k]), np.sin(q[k])
        x, y, z = c * x - s * z + 0.1, y + 0.3 * x, s * x + c * z
    return np.array([x, y, z])


def layers(x):
    return np.tanh(np.tanh(M @ x) @ M) * x


def dipole(x):
    a, b, c, d = x[0], x[1], x[2:4], x[4:]
    return np.concatenate([[a + b - 1, a * b], a * (c**2 - d**2) - 2 * c * d * b, np.cumsum(c) * d])


def tree(x):
    return {"u": x[0] * x[1:3], "v": (np.sum(x), x[3], np.ones(2))}


FUNCTIONS = [arm, layers, dipole]


def graph_of(f):
    return linearise(lambda leaves: [f(leaves[0])], [X])


@pytest.mark.parametrize("f", FUNCTIONS)
def test_elimination_order_does_not_matter(f):
    graph, dense = graph_of(f), cr.jacfwd(f)(X)
    small = eliminate.scalars(graph)
    between = sorted({v for pair in small.edges for v in pair} - {*small.inputs, *small.outputs})
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(between).tolist()
        np.testing.assert_allclose(eliminate.jacobian(graph, order), dense, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(cr.jacobian(f, mode="elimination")(X), dense, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("f", FUNCTIONS)
def test_predicted_multiplications_are_exact(f, monkeypatch):
    graph = graph_of(f)
    small = eliminate.scalars(graph)
    order, predicted = eliminate.search(small, "fast")
    value, count = ops.strong_multiply.value, []
    monkeypatch.setattr(ops.strong_multiply, "value", lambda t, d: count.append(np.size(t)) or value(t, d))
    eliminate.eliminate(small, order)
    assert sum(count) == predicted
    chosen = {o.kind: o.multiplications for o in cr.plan(cr.jacobian(f), X).orders}
    assert chosen["elimination"] <= min(chosen["forward"], chosen["reverse"])


def kept(x):
    return np.where(x > 0, x, 0.0)


MASKED = [
    lambda x: np.sqrt(kept(x[::-1])),
    lambda x: np.sqrt(kept(x)[np.array([0, 2, 1, 1])]),
    lambda x: np.sqrt(kept(x))[np.array([0, 2, 1, 1])],
    lambda x: kept(3 * np.sqrt(x)[::-1]),
    lambda x: kept(x[::-1] * np.sqrt(x)),
]


@pytest.mark.parametrize("f", MASKED)
def test_masks_win_over_infinite_partials_in_every_order(f):
    x = np.array([0.0, 1.0, 4.0])
    with np.errstate(all="ignore"):
        expected = cr.jacfwd(f)(x)
        graph = linearise(lambda leaves: [f(leaves[0])], [x])
        between = sorted({s for edges in graph.incoming for s, _ in edges} - {*graph.inputs, *graph.roots})
        for order in itertools.permutations(between):
            ((found,),) = vertices.jacobian(graph, order)
            np.testing.assert_allclose(found, expected)
        small = eliminate.scalars(graph)
        inner = sorted({v for pair in small.edges for v in pair} - {*small.inputs, *small.outputs})
        for order in (inner, inner[::-1]):
            np.testing.assert_allclose(eliminate.jacobian(graph, order), expected)
        staged = cr.jit(cr.jacobian(f, mode="elimination"), backend="numpy")
        np.testing.assert_allclose([staged(x + 1), staged(x)][1], expected)


def test_elimination_of_trees():
    found, expected = cr.jacobian(tree, mode="elimination")(X), cr.jacobian(tree, mode="reverse")(X)
    np.testing.assert_array_equal(found["u"], expected["u"])
    for a, b in zip(found["v"], expected["v"], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mode", ["elimination", "auto"])
def test_eliminated_jacobian_is_batched_staged_and_differentiated(mode):
    J = cr.jacobian(arm, mode=mode)
    batch = np.stack([X, X + 0.1, X - 0.1])
    staged = cr.jit(cr.vmap(J), backend="numpy")
    np.testing.assert_allclose(staged(batch), [cr.jacfwd(arm)(x) for x in batch], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(cr.jacobian(J)(X), cr.jacfwd(cr.jacfwd(arm))(X), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(
        cr.jit(cr.jacobian(J), backend="numpy")(X), cr.jacfwd(cr.jacfwd(arm))(X), rtol=1e-11, atol=1e-13
    )


def test_staged_auto_eliminates():
    program = cr.program(cr.jacobian(arm))(X)
    assert all(np.prod(v.type.shape) <= 18 for e in program.equations for v in e.outs)
    products = sum(e.primitive.name == "strong_multiply" for e in program.equations)
    assert products <= cr.plan(cr.jacobian(arm, mode="elimination"), X).chosen.multiplications * 1.3


def test_large_functions_are_refused():
    with pytest.raises(DifferentiationError, match="expands a function to scalars"):
        cr.jacobian(np.cumsum, mode="elimination")(np.ones(300))


def test_zero_of_a_selection_wins_over_an_infinite_partial():
    f = lambda x: np.where(x > 0, np.sqrt(np.maximum(x, 0)), 0)
    assert cr.jacobian(f, mode="elimination")(np.array([0.0, 4.0])).tolist() == [[0, 0], [0, 0.25]]


def test_order_for_other_indices_eliminates_all():
    def f(x):
        squares = np.sin(x) ** 2
        return np.exp(squares[np.argsort(cr.value(x))[:2]])

    for kind in ("elimination", "vertices"):
        p = cr.plan(cr.jacobian(f), X)
        p = type(p)(**{**vars(p), "choice": [o.kind for o in p.orders].index(kind)})
        for x in (X, X[::-1], -X):
            np.testing.assert_allclose(cr.jacobian(f, plan=p)(x), cr.jacfwd(f)(x), rtol=1e-12)

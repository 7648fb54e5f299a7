"""Entries computed directly, by structured maps composed, are those of the dense derivative."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.sparse import csr_array

import chainrule as cr
from chainrule.api.hessians import gradient_graph
from chainrule.api.jacobians import jacobian_graph
from chainrule.ir.primitive import ops
from chainrule.plan.execute import forward_blocks
from chainrule.plan.machine import Machine, set_machine
from chainrule.staging import jit
from chainrule.testing.laws import _restricted, active
from chainrule.transforms.assembly import assembled, assembly
from chainrule.transforms.direct import plan_terms
from chainrule.transforms.linearised import linearise
from chainrule.transforms.sparsity import pattern

_spec = importlib.util.spec_from_file_location("random_programs", Path(__file__).parents[1] / "test_random_programs.py")
random_programs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(random_programs)
RNG = np.random.default_rng(3)


def dense(graph):
    """By forward sweeps of unit arrays, one matrix."""
    rows = [[b.reshape(m, -1) for b in row] for row, m in zip(forward_blocks(graph), graph.output_sizes, strict=True)]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def entries(graph, **options):
    direct = plan_terms(graph, **options)
    return None if direct is None else direct.layout.matrix(direct.values(graph))


def agrees(graph, **options):
    found = entries(graph, **options)
    assert isinstance(found, csr_array)
    assert found.has_canonical_format
    found.check_format()
    expected = dense(graph)
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-11, atol=1e-11)
    where = pattern(graph)
    assert np.array_equal(found.indptr, where.indptr)
    assert np.array_equal(found.indices, where.indices)


# ---- functions


def bratu(u):
    n = round(u.size**0.5)
    v = np.pad(u.reshape(n, n), 1)
    laplacian = v[2:, 1:-1] + v[:-2, 1:-1] + v[1:-1, 2:] + v[1:-1, :-2] - 4 * v[1:-1, 1:-1]
    return (laplacian + np.exp(v[1:-1, 1:-1]) / (n + 1) ** 2).ravel()


def stencil_of_stencil(x):
    y = np.sin(x[1:] * x[:-1])
    return y[2:] * y[:-2] - np.concatenate([y[:1], y[1:-1][:-1]])


def elements(x):
    """Residuals of elements with four corners each, added up at the corners."""
    corners = np.array([[0, 1, 4, 5], [1, 2, 5, 6], [2, 3, 6, 7], [4, 5, 8, 9], [5, 6, 9, 10], [6, 7, 10, 11]])
    local = x[corners]
    force = np.tanh(local - np.mean(local, axis=1, keepdims=True)) * np.arange(1, 5)
    return np.bincount(corners.ravel(), force.ravel(), 12)


def observations(cameras, points):
    i, j = np.array([0, 1, 2, 0, 1]), np.array([3, 2, 1, 0, 0])
    c, p = cameras[i], points[j]
    turned = np.cross(c[:, :3], p) + p * c[:, 3:4]
    return (turned[:, :2] / (3 + turned[:, 2:3] ** 2) * np.sum(c**2, axis=1, keepdims=True)).ravel()


def matrices(x):
    w = np.arange(12.0).reshape(4, 3)
    return np.tanh(x.reshape(-1, 3) @ w.T) @ w


def masked(x):
    return np.where(x > 0, np.sqrt(np.abs(x)), x**2) * np.maximum(x, 0.3)


def several(x):
    return {"a": x[1:] * x[:-1], "b": (x[::2] ** 2, np.ones(3)), "c": x}


JACOBIANS = {
    "bratu": (bratu, (RNG.normal(size=25),)),
    "stencil of stencil": (stencil_of_stencil, (RNG.normal(size=9),)),
    "finite elements": (elements, (RNG.normal(size=12),)),
    "observations": (observations, (RNG.normal(size=(3, 4)), RNG.normal(size=(4, 3)))),
    "matrices": (matrices, (RNG.normal(size=12),)),
    "masks": (masked, (RNG.normal(size=7),)),
    "several outputs": (several, (RNG.normal(size=6),)),
    "one output twice": (lambda x: (x, x, x * x), (RNG.normal(size=4),)),
    "a number": (lambda x: np.sin(x) * x, (0.3,)),
    "broadcast": (lambda x: np.outer(np.sin(x), x), (RNG.normal(size=5),)),
    "reversed and transposed": (lambda x: (x.reshape(3, 4).T[::-1] ** 2).ravel(), (RNG.normal(size=12),)),
    "single precision": (lambda x: x[1:] * np.sin(x[:-1]), (RNG.normal(size=7).astype(np.float32),)),
    "prefixes": (lambda x: np.concatenate([x[:3] * x[0], np.sum(x) * x[3:]]), (RNG.normal(size=6),)),
    "cumulated by hand": (lambda x: np.stack([np.sum(x[:k] ** 2) for k in range(1, 6)]), (RNG.normal(size=5),)),
}
HESSIANS = {
    "rosenbrock": lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
    "neighbours": lambda x: np.sum(np.cos(x[:-2] * x[2:]) * x[1:-1]),
    "periodic": lambda x: np.sum(np.roll(x, 1) ** 2 * x) + np.sum(x**4),
    "pairs": lambda x: np.sum(np.exp(x[np.array([0, 3, 5, 5])] * x[np.array([7, 2, 1, 4])])),
    "padded plane": lambda x: np.sum(np.diff(np.pad(x.reshape(2, 4), 1), axis=0) ** 4),
}


@pytest.mark.parametrize("name", JACOBIANS)
def test_entries_are_those_of_the_dense_jacobian(name):
    f, args = JACOBIANS[name]
    graph = jacobian_graph(f, tuple(range(len(args))))(*args)
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if args[0] is not None and np.asarray(args[0]).dtype == "f4" else {}
    if tolerance:
        np.testing.assert_allclose(entries(graph).toarray(), dense(graph), **tolerance)
    else:
        agrees(graph)


@pytest.mark.parametrize("name", HESSIANS)
def test_entries_are_those_of_the_dense_hessian(name):
    agrees(gradient_graph(HESSIANS[name])(RNG.normal(size=8)), symmetric=True)


def test_entries_of_complex_functions_are_those_of_forward_sweeps():
    z = RNG.normal(size=5) + 1j
    graph = linearise(lambda xs: [xs[0][1:] * np.exp(xs[0][:-1])], [z])
    np.testing.assert_allclose(entries(graph).toarray(), dense(graph), rtol=1e-12)
    graph = linearise(lambda xs: [np.abs(xs[0] * (1 + 2j)) + np.real(1j * xs[0] ** 2)], [RNG.normal(size=5)])
    np.testing.assert_allclose(entries(graph).toarray(), dense(graph), rtol=1e-12)


@pytest.mark.parametrize(
    "f", [lambda x: np.sum(x) * np.arange(40.0) * x, lambda x: np.linalg.inv(x.reshape(2, 20) @ x.reshape(20, 2))]
)
def test_long_sums_and_maps_without_structure_are_left_to_sweeps(f):
    graph = linearise(lambda xs: [f(xs[0])], [RNG.normal(size=40)])
    assert plan_terms(graph) is None


def test_gather_is_met_at_the_gathered_array():
    """Both parts of the graph are gone through in the direction in which they have few terms."""
    w = RNG.normal(size=(5, 3))
    i = RNG.integers(0, 4, 50)
    graph = linearise(lambda xs: [np.sum(np.tanh(xs[0][i]) * w[0] * xs[0][i], axis=1)], [RNG.normal(size=(4, 3))])
    direct = plan_terms(graph)
    assert sum(len(t) for t in direct.behind.values()) <= len(direct.behind) + 1
    np.testing.assert_allclose(direct.layout.matrix(direct.values(graph)).toarray(), dense(graph), rtol=1e-12)


@given(random_programs.programs, random_programs.seeds)
@settings(max_examples=60, deadline=None)
def test_entries_of_random_programs(program, seed):
    x, y, other, _ = random_programs.draw(seed)
    graph = linearise(lambda xs: [random_programs.run(program, *xs)], [x, y])
    direct = plan_terms(graph)
    if direct is None:
        return
    for point in (graph, linearise(lambda xs: [random_programs.run(program, *xs)], [other, y])):
        expected = dense(point)
        found = direct.layout.matrix(direct.values(point)).toarray()
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10 * (1 + np.max(np.abs(expected))))


CASES = [
    pytest.param(primitive, args, params, id=f"{primitive.name}-{i}")
    for primitive in ops
    for i, (args, params) in enumerate(primitive.samples())
    if active(primitive, args)
]


@pytest.mark.parametrize(("primitive", "args", "params"), CASES)
def test_entries_of_every_primitive(primitive, args, params):
    """Between a map before and one after it, so that terms go through it both ways."""
    which = active(primitive, args)
    inner = _restricted(primitive, args, params, which)
    xs = [args[k] for k in which]

    def around(ys):
        return [1.5 * z for z in inner([0.5 * (y + y) for y in ys])]

    with np.errstate(all="ignore"):
        graph = linearise(around, xs)
        direct = plan_terms(graph)
        if direct is not None and min(direct.layout.shape) > 0:
            np.testing.assert_allclose(
                direct.layout.matrix(direct.values(graph)).toarray(), dense(graph), rtol=1e-10, atol=1e-10
            )


# ---- staged


@pytest.mark.parametrize("name", [n for n in JACOBIANS if n != "single precision"])
def test_native_entries_are_the_plain_ones(name):
    f, args = JACOBIANS[name]
    J = cr.jacobian(f, tuple(range(len(args))), sparse=True)
    graph = jacobian_graph(f, tuple(range(len(args))))(*args)
    staged = jit(lambda *xs: entries(jacobian_graph(f, tuple(range(len(args))))(*xs)).data)
    np.testing.assert_allclose(staged(*args), entries(graph).data, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(jit(J)(*args).toarray(), dense(graph), rtol=1e-11, atol=1e-11)


def test_one_kernel_computes_the_hessian_of_rosenbrock():
    f = HESSIANS["rosenbrock"]
    x = RNG.normal(size=3000)
    staged = jit(cr.hessian(f, sparse=True))
    np.testing.assert_allclose(staged(x).toarray(), cr.hessian(f, sparse=True)(x).toarray(), rtol=1e-12)
    assert str(cr.explain(staged, x)).count("kernel over") == 1


def test_staged_functions_count_no_calls():
    """Many operations on short arrays: sweeps by NumPy are fewer calls, native code has none."""
    i = np.array([0, 1, 2, 0, 1])

    def f(x):
        y = x[i]
        return np.stack([np.sum(np.sin(y * (k + 1)) * y, axis=1) for k in range(6)], axis=1).ravel()

    x = RNG.normal(size=(3, 3))
    J = cr.jacobian(f, sparse=True)
    set_machine(Machine(call=1.0, byte=1e-12, product=1e-12))
    try:
        assert cr.plan(J, x).chosen.kind == "compressed"
        J(x)
        text = str(cr.explain(jit(J), x))
    finally:
        set_machine(None)
    assert "assemble" in text
    np.testing.assert_allclose(jit(J)(x).toarray(), J(x).toarray(), rtol=1e-12)


def test_no_entry_is_multiplied_by_zeros_of_seeds():
    """sqrt has an infinite slope at zero; entries beside it stay what they are."""
    x = np.array([0.0, 1.0, 4.0])
    graph = linearise(lambda xs: [np.where(xs[0] > 0, np.sqrt(xs[0]), 0.0) + xs[0][::-1]], [x])
    agrees(graph)


# ---- putting entries in their places


@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 2)])
def test_entries_are_put_in_their_places(shape):
    rng = np.random.default_rng(0)
    size = int(np.prod(shape))
    regular = np.arange(3 * size).reshape(*shape, 3)
    for holes in (0, 3):
        for order in (regular, rng.permutation(3 * size).reshape(*shape, 3)):
            keys = [order[..., k].copy() for k in range(3)]
            for k in keys:
                k.ravel()[rng.integers(0, size, holes)] = -1
            how = assembly(keys, (3 * size, 1))
            values = [rng.normal(size=shape) for _ in keys]
            data = assembled(values, how, np.dtype(float))
            expected = np.zeros(3 * size)
            for k, v in zip(keys, values, strict=True):
                expected[k[k >= 0]] = v[k >= 0]
            np.testing.assert_array_equal(how.layout.matrix(data).toarray().ravel(), expected)


def test_places_in_steps_are_pieces():
    keys = [np.arange(50) * 3, np.arange(50) * 3 + 1, np.concatenate([[-1], np.arange(49) * 3 + 2])]
    how = assembly(keys, (150, 1))
    assert len(how.pieces) == 3
    assert how.lanes == (50,)


@pytest.mark.parametrize(
    ("piece", "match"),
    [
        ((0, (0,), (3,), 2, (2,)), "reaches out"),
        ((0, (0,), (3,), 1, (-1,)), "reaches out"),
        ((0, (0,), (4,), 0, (1,)), "of an array of shape"),
    ],
)
def test_pieces_stay_within_their_arrays(piece, match):
    with pytest.raises(IndexError, match=match):
        ops.assemble(np.ones(3), pieces=(piece,), size=6)
    with pytest.raises(IndexError, match=match):
        jit(lambda x: ops.assemble(x, pieces=(piece,), size=6))(np.ones(3))

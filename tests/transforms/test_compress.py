"""A compressed and recovered derivative equals the dense one."""

import numpy as np
import pytest
from scipy.sparse import csr_array

import chainrule as cr
from chainrule.errors import DifferentiationError, ShapeError
from chainrule.staging import jit


def banded(x):
    return x[1:] * np.sin(x[:-1])


def arrow(x):
    """A dense row and a dense column beside a diagonal."""
    return np.concatenate([[np.sum(x**2)], x[0] * x[1:] ** 2])


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def wheel(x):
    return np.sum(x[0] * x[1:] ** 2) + np.sum(np.roll(x, 1) * x**2)


def two_ways(x):
    return x[1:] * x[:-1] if x[0] > 0 else x[1:] * x[-1]


def gathered(cameras, points):
    i, j = np.array([0, 1, 2, 0, 1]), np.array([3, 2, 1, 0, 0])
    return np.sum(cameras[i] * np.tanh(points[j]), axis=1) - np.ones(5)


X = np.random.default_rng(0).uniform(0.5, 1.5, 11)


def agrees(found, dense):
    assert isinstance(found, csr_array)
    assert found.has_canonical_format
    found.check_format()
    np.testing.assert_allclose(found.toarray(), dense, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("f", [banded, arrow, two_ways, np.cumsum, lambda x: np.ones(3), lambda x: np.sum(x)])
@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_sparse_jacobian_is_dense_jacobian(f, mode):
    agrees(cr.jacobian(f, sparse=True, mode=mode)(X), cr.jacobian(f)(X).reshape(-1, 11))


@pytest.mark.parametrize("f", [rosenbrock, wheel, lambda x: np.prod(x), lambda x: np.sum(x)])
def test_sparse_hessian_is_dense_hessian(f):
    agrees(cr.hessian(f, sparse=True)(X), cr.hessian(f)(X))


def test_blocks_of_several_arguments_are_columns():
    rng = np.random.default_rng(1)
    cameras, points = rng.normal(size=(3, 2)), rng.normal(size=(4, 2))
    blocks = cr.jacobian(gathered, (0, 1))(cameras, points)
    found = cr.jacobian(gathered, (0, 1), sparse=True)(cameras, points)
    agrees(found, np.concatenate([b.reshape(5, -1) for b in blocks], axis=1))
    assert found.nnz == 5 * 4


def test_another_branch_finds_its_own_pattern():
    J = cr.jacobian(two_ways, sparse=True)
    for x in (X, -X, X, -X):
        agrees(J(x), cr.jacobian(two_ways)(x))


def test_other_indices_find_their_own_pattern():
    J = cr.jacobian(lambda x: x[np.argsort(cr.value(x))] ** 2, sparse=True)
    for x in (X, -X, X[::-1]):
        agrees(J(x), cr.jacobian(lambda y: y[np.argsort(x)] ** 2)(x))


def test_indices_changed_in_place_find_their_own_pattern():
    i = np.array([0, 1, 2])
    f = lambda x: x[i] ** 2
    J = cr.jacobian(f, sparse=True)
    agrees(J(X), cr.jacobian(f)(X))
    i[:] = [5, 0, 7]
    agrees(J(X), cr.jacobian(f)(X))


def test_what_a_closure_holds_is_read_at_each_call():
    scale = [1.0]
    J = cr.jacobian(lambda x: scale[0] * x, sparse=True)
    J(X)
    scale[0] = 3.0
    agrees(J(X), 3 * np.eye(11))


def test_results_do_not_share_memory():
    J = cr.jacobian(banded, sparse=True)
    first = J(X)
    first.data[:] = 0
    first.indices[:] = 0
    agrees(J(X), cr.jacobian(banded)(X))


@pytest.mark.parametrize("derivative", [cr.jacobian(banded, sparse=True), cr.hessian(rosenbrock, sparse=True)])
def test_staged_sparse_derivative_is_scipy_sparse(derivative):
    staged = jit(derivative, backend="numpy")
    for x in (X, X + 1):
        agrees(staged(x), derivative(x).toarray())


def test_staged_branches_have_their_own_patterns():
    staged = jit(cr.jacobian(two_ways, sparse=True), backend="numpy")
    for x in (X, -X, X, -X):
        agrees(staged(x), cr.jacobian(two_ways)(x))


def test_sparse_derivatives_by_native_code():
    for derivative in (cr.jacobian(arrow, sparse=True), cr.hessian(wheel, sparse=True)):
        np.testing.assert_allclose(jit(derivative)(X).toarray(), derivative(X).toarray(), rtol=1e-12, atol=1e-12)


def test_traced_sparse_matrix_multiplies_and_is_differentiated():
    J = cr.jacobian(banded, sparse=True)
    D = cr.jacobian(banded)
    v, w = np.arange(11.0), np.ones((10, 2))
    for product in (lambda j: j @ v, lambda j: j.T @ w, lambda j: j.toarray() if hasattr(j, "toarray") else j):
        np.testing.assert_allclose(cr.jacobian(lambda x: product(J(x)))(X), cr.jacobian(lambda x: product(D(x)))(X))


def test_auto_is_sparse_where_it_saves():
    assert isinstance(cr.jacobian(banded, sparse="auto")(np.ones(200)), csr_array)
    assert isinstance(cr.hessian(rosenbrock, sparse="auto")(np.ones(200)), csr_array)
    assert isinstance(cr.jacobian(banded, sparse="auto")(X), np.ndarray)
    assert isinstance(cr.jacobian(np.cumsum, sparse="auto")(np.ones(200)), np.ndarray)


def test_complex_functions():
    z = X + 1j
    agrees(cr.jacobian(banded, sparse=True, holomorphic=True)(z), cr.jacobian(banded, holomorphic=True)(z))
    agrees(cr.jacobian(lambda x: 1j * x * x, sparse=True)(X), 2j * np.diag(X))
    with pytest.raises(DifferentiationError, match="real part"):
        cr.jacobian(lambda x: 1j * x, sparse=True, mode="reverse")(X)


def test_batch_of_sparse_matrices_is_a_list():
    xs = np.random.default_rng(1).normal(size=(3, 5))
    J = cr.jacobian(banded, sparse=True)
    for batched in (cr.vmap(J), cr.jit(cr.vmap(J)), cr.vmap(cr.jit(J))):
        found = batched(xs)
        assert isinstance(found, list)
        for j, x in zip(found, xs, strict=True):
            agrees(j, cr.jacobian(banded)(x))
    pairs = cr.vmap(lambda x: (J(x), x * 2))(xs)
    agrees(pairs[0][2], cr.jacobian(banded)(xs[2]))
    np.testing.assert_array_equal(pairs[1], xs * 2)
    (_, second), _ = cr.vmap(cr.vmap(J))(np.stack([xs[:2], xs[1:]]))
    agrees(second, cr.jacobian(banded)(xs[1]))
    agrees(cr.vmap(lambda x: cr.hessian(rosenbrock, sparse=True)(x))(xs)[1], cr.hessian(rosenbrock)(xs[1]))
    assert cr.vmap(J)(np.ones((0, 5))) == []


def test_batch_of_sparse_matrices_is_differentiated():
    xs, v = np.random.default_rng(1).normal(size=(3, 5)), np.arange(5.0)
    f = lambda J: lambda xs: sum(np.sum((j @ v) ** 2) for j in cr.vmap(J)(xs))
    found = cr.grad(f(cr.jacobian(banded, sparse=True)))(xs)
    np.testing.assert_allclose(found, cr.grad(f(cr.jacobian(banded)))(xs), rtol=1e-12)


def test_batch_axis_of_sparse_matrices_is_the_first():
    with pytest.raises(ShapeError, match="out_axes=0"):
        cr.vmap(cr.jacobian(banded, sparse=True), out_axes=1)(np.ones((2, 5)))


def test_infinite_partials_under_a_zero_stay_zero():
    f = lambda x: np.where(x > 0, np.sqrt(np.maximum(x, 0)), 0)
    x = np.array([0.0, 4.0])
    agrees(cr.jacobian(f, sparse=True)(x), np.diag([0, 0.25]))
    agrees(cr.jacobian(f, sparse=True, mode="reverse")(x), np.diag([0, 0.25]))


def hub(x):
    """Pairs of random neighbours, behind a sum too long to be taken apart: a few substitutions save a sweep."""
    i = np.random.default_rng(5).integers(0, np.maximum(np.arange(1, x.size), 1))
    y = np.sin(np.cos(x) * np.exp(np.sin(x)))
    for _ in range(6):
        y = np.tanh(np.sin(y) + np.cos(x))
    return np.sum(y[1:] * y[i])


def test_plan_takes_the_cheaper_of_star_and_acyclic(monkeypatch):
    from chainrule.transforms import compress

    monkeypatch.setattr(compress, "plan_terms", lambda graph, **options: None)
    x = np.random.default_rng(0).uniform(0.5, 1.0, 200)
    for deepest, kind in ((64, "acyclic"), (0, "star")):
        monkeypatch.setattr(compress, "_DEEPEST", deepest)
        H = cr.hessian(hub, sparse=True)
        chosen = cr.plan(H, x).chosen
        assert chosen.colouring == kind
        assert kind in str(cr.plan(H, x))
        agrees(H(x), cr.hessian(hub)(x))
        np.testing.assert_allclose(jit(H)(x).toarray(), H(x).toarray(), rtol=1e-11, atol=1e-12)
        v = np.arange(200.0)
        np.testing.assert_allclose(
            cr.grad(lambda x: np.sum((H(x) @ v) ** 2))(x),
            cr.grad(lambda x: np.sum((cr.hessian(hub)(x) @ v) ** 2))(x),
            rtol=1e-9,
        )

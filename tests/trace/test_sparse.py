"""Constant matrices of scipy.sparse in products with traced values."""

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg

import chainrule as cr
from chainrule.trace import sparse

DENSE = sp.random_array((5, 4), density=0.4, rng=np.random.default_rng(3)).toarray()
KINDS = [
    sp.csr_array, sp.csc_array, sp.coo_array, sp.lil_array, sp.dok_array, sp.bsr_array, sp.dia_array, sp.csr_matrix, sp.coo_matrix,
]  # fmt: skip
X, W = np.array([0.5, -1.0, 2.0, 0.25]), np.array([1.0, 0.5, -2.0, 0.3, 0.7])
XS, WS = np.stack([X, X**2, 1 / X], axis=1), np.stack([W, W**2])


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def matrix(request):
    return request.param(DENSE)


PRODUCTS = {
    "S @ x": (lambda s, x: s @ x, X),
    "S @ X": (lambda s, x: s @ x, XS),
    "S @ column": (lambda s, x: s @ x[:, None], X),
    "S.T @ x": (lambda s, x: s.T @ x, W),
    "S.dot(x)": (lambda s, x: s @ x if s is DENSE else s.dot(x), X),
    "np.dot(S, x)": (lambda s, x: s @ x if isinstance(x, np.ndarray) else np.dot(s, x), X),
    "x @ S": (lambda s, x: x @ s, W),
    "X @ S": (lambda s, x: x @ s, WS),
    "x.dot(S)": (lambda s, x: x @ s if isinstance(x, np.ndarray) else x.dot(s), W),
    "x @ S.T": (lambda s, x: x @ s.T, X),
    "twice": (lambda s, x: s.T @ np.sin(s @ x), X),
}


@pytest.mark.parametrize(("product", "x"), PRODUCTS.values(), ids=PRODUCTS)
def test_products_with_a_sparse_matrix_are_those_with_the_dense_one(matrix, product, x):
    of_sparse, of_dense = (lambda x: product(matrix, x)), (lambda x: product(DENSE, x))
    agrees = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-14)
    agrees(cr.program(of_sparse)(x)(x)[0], of_sparse(x))
    for transform in (cr.jacfwd, cr.jacrev, cr.jacobian):
        agrees(transform(of_sparse)(x), transform(of_dense)(x))
    agrees(cr.vmap(of_sparse)(np.stack([x, 2 * x])), np.stack([of_dense(x), of_dense(2 * x)]))
    agrees(cr.hessian(lambda x: np.sum(of_sparse(x) ** 3))(x), cr.hessian(lambda x: np.sum(of_dense(x) ** 3))(x))


def test_the_pattern_through_a_sparse_matrix_is_its_own():
    s = sp.diags_array([1.0, -2.0, 1.0], offsets=(-1, 0, 1), shape=(50, 50)).tocsr()
    found = cr.jacobian(lambda u: s @ u - np.exp(u), sparse=True)(np.zeros(50))
    assert found.nnz == s.nnz
    np.testing.assert_array_equal(found.toarray(), s.toarray() - np.eye(50))
    assert cr.pattern(lambda u: u @ s)(np.zeros(50)).nnz == s.nnz


def test_products_with_sparse_matrices_are_staged():
    s = sp.csr_array(DENSE)
    f = lambda x: np.sum(np.tanh(s @ x) ** 2)
    np.testing.assert_allclose(cr.jit(cr.grad(f))(X), cr.grad(lambda x: np.sum(np.tanh(DENSE @ x) ** 2))(X), rtol=1e-13)


def test_products_of_variables_with_sparse_matrices():
    w = cr.variable(X)
    np.sum((sp.csr_array(DENSE) @ w) ** 2).backward()
    np.testing.assert_allclose(w.grad, 2 * DENSE.T @ DENSE @ X)


def test_integers_single_precision_and_complex_are_promoted_as_by_scipy():
    for entries in (np.int32, np.float32, complex, bool):
        s = sp.csr_array(DENSE.astype(entries))
        for kind in (np.float32, np.float64, complex):
            x = X.astype(kind)
            assert cr.program(lambda x: s @ x)(x).outputs[0].type.dtype == (s @ x).dtype


def test_linear_operators_of_sparse_matrices():
    operator = scipy.sparse.linalg.aslinearoperator(sp.csr_array(DENSE))
    np.testing.assert_allclose(cr.jacobian(lambda x: operator @ x)(X), DENSE)
    np.testing.assert_allclose(cr.jacobian(operator.rmatvec)(W), DENSE.T)


def test_shapes_are_checked():
    s = sp.csr_array(DENSE)
    for product in (lambda x: s @ x, lambda x: x @ s.T, lambda x: s @ x[:, None], lambda x: s @ x[:3]):
        with pytest.raises((cr.ShapeError, ValueError), match=r"shape|mismatch"):
            cr.grad(lambda x: np.sum(product(x)))(np.ones(6))
    with pytest.raises(cr.ShapeError, match=r"\(5, 4\)"):
        cr.jit(lambda x: cr.jacobian(lambda y: s @ y, sparse=True)(x) @ (x[0] * np.ones(5)))(X)


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csr_matrix])
def test_operations_by_elements_name_the_repair(kind):
    s = kind(DENSE)
    for f in (lambda x: s + x, lambda x: x * s, lambda x: s * x[None, :], lambda x: s.multiply(x)):
        with pytest.raises(cr.TraceError, match=r"toarray|no derivative"):
            cr.grad(lambda x: np.sum(f(x)))(X)


def test_layouts_are_kept_while_their_matrix_lives():
    matrices = [sp.csr_array(DENSE)]
    f = lambda x: np.sum((matrices[0] @ x) ** 2)
    cr.grad(f)(X)
    key = id(matrices[0].indices)
    kept = sparse._layouts[key][2]
    cr.grad(f)(X)
    assert sparse._layouts[key][2] is kept
    matrices[0].indices[:] = matrices[0].indices[::-1].copy()
    np.testing.assert_allclose(cr.grad(f)(X), 2 * matrices[0].T @ (matrices[0] @ X))
    matrices.clear()
    assert key not in sparse._layouts
